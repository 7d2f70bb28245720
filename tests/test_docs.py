"""Every Python block of the README and the docs runs as printed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from mlanet.cli.main import app, main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.M | re.S)


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)], ids=lambda page: page.name)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a reader copies from a page works, block after block, in one session."""
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


def command_lines(page: Path) -> list[list[str]]:
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    lines = [line.split("#")[0].split("&&")[-1].strip() for block in blocks for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("mlanet ")]


@pytest.mark.parametrize("page", [page for page in PAGES if command_lines(page)], ids=lambda page: page.name)
def test_printed_commands_exist(page: Path) -> None:
    """Every command and option that a page prints is one that the command line has."""
    for words in command_lines(page):
        command = typer.main.get_command(app)
        while words and words[0] in (subcommands := getattr(command, "commands", {})):
            command, words = subcommands[words[0]], words[1:]
        known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        assert not getattr(command, "commands", {}), f"{page.name}: no command in {words}"
        assert not [word for word in words if word.startswith("-") and word.split("=")[0] not in known], words
