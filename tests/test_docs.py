"""Every Python block of the README and the docs runs as printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.M | re.S)


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)], ids=lambda page: page.name)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a reader copies from a page works, block after block, in one session."""
    from mlanet.cli.main import main

    (tmp_path / "mlanet").symlink_to(ROOT / "mlanet")
    monkeypatch.chdir(tmp_path)
    if "out.extxyz" in page.read_text(encoding="utf-8"):
        assert main(["predict", "mlanet/examples/si.cif", "--model", "elemental", "--output", "out.extxyz"]) == 0
    session = {"__name__": page.stem}
    for block in python_blocks(page):
        exec(compile(block, page.name, "exec"), session)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """A link to a file of the project names one that exists."""
    missing = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if not (page.parent / link).exists()]
    assert not missing
