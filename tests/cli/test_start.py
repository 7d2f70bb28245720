"""The command line starts at once and explains itself."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path

import pytest
import typer

from mlanet import __version__
from mlanet.cli.commands import ENTRIES
from mlanet.cli.main import app

HEAVY = ("torch", "numpy", "scipy", "ase", "e3nn", "matplotlib", "pymatgen", "pydantic", "mlanet.sweep")


def every_command() -> list[list[str]]:
    """The words of every command and group of commands there is, `[]` for `mlanet` itself."""
    words: list[list[str]] = [[]]
    for name, command in typer.main.get_command(app).commands.items():
        words += [[name], *([name, inner] for inner in getattr(command, "commands", {}))]
    return words


def seconds_of_a_loop() -> float:
    """Processor time of two million additions, best of three: a tenth of a second on a machine of 2020."""
    times = []
    for _ in range(3):
        start = time.process_time()
        total = 0
        for number in range(2_000_000):
            total += number
        times.append(time.process_time() - start)
    return min(times)


def test_help_imports_nothing_heavy() -> None:
    """No help page waits for torch, numpy or ASE."""
    program = (
        "import sys\nfrom mlanet.cli.main import main\n"
        f"for words in {every_command()!r}:\n    assert main([*words, '--help']) == 0, words\n"
        f"sys.exit(','.join(name for name in {HEAVY!r} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


NEVER = ("torch._dynamo", "torch._inductor", "sympy", "triton", "pymatgen", "scipy.integrate", "scipy.stats")
"""What no answer needs: torch's compiler and what it brings, and what other packages name without using it."""
NOT_FOR_ONE = ("scipy.linalg", "scipy.special", "scipy.optimize", "scipy.sparse", "ase.neighborlist", "matplotlib")
"""What one prediction does not need either."""


def test_an_answer_waits_for_nothing_it_does_not_need(tmp_path: Path) -> None:
    """`mlanet predict`, `relax` and `md` load torch, the model and a reader of files, not a compiler."""
    program = f"""
import sys
from mlanet.cli.main import main
def loaded(names):
    return ",".join(name for name in names if name in sys.modules)
crystal = {str(files("mlanet") / "examples" / "li.POSCAR")!r}
assert main(["predict", crystal, "--model", "elemental", "--json"]) == 0
assert not (found := loaded({NEVER + NOT_FOR_ONE!r})), found
assert main(["relax", crystal, "--model", "elemental", "--steps", "1", "--output", "relaxed.extxyz"]) in (0, 1)
assert main(["md", crystal, "--model", "elemental", "--steps", "1", "--output", "md"]) == 0
assert not (found := loaded({NEVER!r})), found
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [["md", "--steps", "1"], ["eos", "--points", "5"]])
def test_no_answer_waits_for_a_picture(tmp_path: Path, command: list[str]) -> None:
    """What is printed is printed before matplotlib is loaded; without a picture neither it nor scipy ever is."""
    program = f"""
import sys
from mlanet.cli.main import main
crystal = {str(files("mlanet") / "examples" / "li.POSCAR")!r}
heard, write, flush = [], sys.stdout.write, sys.stdout.flush
def listening():
    assert "matplotlib" not in sys.modules, heard
    flush()
sys.stdout.write = lambda text: heard.append(text) or write(text)
sys.stdout.flush = listening
for words in (["--no-picture"], ["--no-picture", "--json"], ["--json"]):
    assert main([*{command!r}, crystal, "--model", "elemental", *words, "--output", "out" + "".join(words)]) == 0
    assert heard, words
    heard.clear()
    loaded = [one for one in ("matplotlib", "scipy.linalg", "scipy.optimize") if one in sys.modules]
    assert bool(loaded) == ("--no-picture" not in words), (words, loaded)
sys.stdout.flush = flush
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [path.parent.name for path in tmp_path.glob("*/*.png")] == ["out--json"]


@pytest.mark.parametrize("command", [[], ["train"], ["predict"]], ids=" ".join)
def test_help_takes_less_than_half_a_second(command: list[str]) -> None:
    """Processor time of `mlanet --help` and of commands' help, best of three; slower machines get more of it."""
    times = []
    for _ in range(3):
        start = os.times()
        subprocess.run([sys.executable, "-m", "mlanet", *command, "--help"], capture_output=True, check=True)
        end = os.times()
        times.append(end.children_user + end.children_system - start.children_user - start.children_system)
    assert min(times) < 0.4 * max(1.0, seconds_of_a_loop() / 0.1)


@pytest.mark.parametrize(("words", "own"), [([], []), (["train"], ["train"]), (["data", "split"], ["data"])])
def test_help_loads_no_other_command(words: list[str], own: list[str]) -> None:
    """`mlanet --help` is written from a table, and the help of a command from its own module."""
    program = f"""
import sys
sys.argv = ["mlanet", *{words!r}, "--help"]
from mlanet.__main__ import main
assert main() == 0
modules = {sorted({entry.place.split(":")[0] for entry in ENTRIES.values()})!r}
assert [name for name in modules if f"mlanet.cli.{{name}}" in sys.modules] == {own!r}
assert not {{"rich.markdown", "rich.traceback", "markdown_it", "pygments"}} & set(sys.modules)
from rich.markdown import Markdown
assert Markdown("# A heading").parsed
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_table_of_commands_says_what_they_say() -> None:
    """The line of each command in `mlanet --help` is the first paragraph of its own help, under the same name."""
    for name, command in typer.main.get_command(app).commands.items():
        first = inspect.cleandoc(command.help).split("\n\n")[0].replace("\n", " ")
        assert (name, first) == (command.name, ENTRIES[name].meaning)
        assert command.rich_help_panel == ENTRIES[name].panel


def test_version(mlanet) -> None:
    """`--version` prints one line."""
    assert mlanet("--version").out == f"mlanet {__version__}\n"


@pytest.mark.parametrize(
    "words", [["nosuch"], ["predict", "--nosuch"], ["predict"], ["predict", "x", "--dtype", "int8"]]
)
def test_wrong_usage_is_status_2(mlanet, words: list[str]) -> None:
    """Wrong words on the command line print a hint on stderr and nothing on stdout."""
    outcome = mlanet(*words)
    assert outcome.status == 2 and outcome.err and not outcome.out


def test_interrupt_is_status_130(mlanet, model, labelled, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends with 130, without a traceback, and leaves no half-written file."""
    from mlanet.workflows import predict

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(predict, "with_prediction", interrupted)
    outcome = mlanet("predict", labelled, "--model", model, "--output", "folder/out.extxyz")
    assert outcome.status == 130 and "Traceback" not in outcome.err
    assert os.listdir("folder") == []


def test_a_bug_keeps_its_traceback(mlanet, model, labelled, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that is not a `MLANetError` is not dressed up as a user's mistake."""
    from mlanet.workflows import predict

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(predict, "with_prediction", broken)
    with pytest.raises(ZeroDivisionError):
        mlanet("predict", labelled, "--model", model)
