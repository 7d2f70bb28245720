"""The table of sixty checks is whole, and every test that it names exists."""

from __future__ import annotations

import ast
import inspect
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> tuple:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    for name in [name for name in sys.modules if name.split(".")[0] == "reliability"]:
        monkeypatch.delitem(sys.modules, name)
    from reliability.checks import CHECKS

    return CHECKS


def test_sixty_checks_in_order(checks: tuple) -> None:
    """Numbers are what people cite."""
    assert [one.number for one in checks] == list(range(1, 61))
    assert all(one.promise and one.limit for one in checks)


def test_every_test_that_is_named_exists(checks: tuple) -> None:
    """A check that runs no test would be kept by nobody."""
    nodes = [node for one in checks for node in inspect.getclosurevars(one.measure).nonlocals.get("nodes", ())]
    assert len(nodes) > 30
    for node in nodes:
        file, _, name = node.partition("::")
        tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        names = {one.name for one in tree.body if isinstance(one, ast.FunctionDef)}
        assert not name or name in names, node


def test_a_failing_test_is_a_missed_promise(checks: tuple) -> None:
    """What pytest says becomes the verdict."""
    from reliability.check import tests as by_tests

    assert not by_tests("no_such_file.py")().holds


def test_the_page_has_every_check(checks: tuple) -> None:
    """docs/reliability.md is written by the command, not by hand."""
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    for one in checks:
        assert f"| {one.number} | {one.promise} | {one.limit} |" in text
