"""The house rules that a machine can check."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "mlanet").rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_fits_in_the_head(path: Path) -> None:
    """At most 400 lines, functions at most 70, a docstring on the module and on every public thing."""
    text = path.read_text()
    tree = ast.parse(text)
    assert text.count("\n") <= 400
    assert ast.get_docstring(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            lines = (node.end_lineno or 0) - node.lineno - (ast.get_docstring(node) or "").count("\n")
            assert lines <= 70, node.name


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_unsafe(path: Path) -> None:
    """No pickles, no global defaults, none of the reductions whose second derivatives are wrong, no unfinished work."""
    forbidden = (
        r"pickle\.load|weights_only\s*=\s*False|set_default_dtype|segment_csr\(|segment_coo\(|\bTODO\b|\bFIXME\b"
    )
    assert not re.search(forbidden, path.read_text())


def test_no_file_without_a_subject() -> None:
    """A name says what is inside."""
    assert not {path.name for path in SOURCES} & {"utils.py", "common.py", "helpers.py", "misc.py"}
