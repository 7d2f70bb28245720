"""Shows that the quick tests notice small errors in the equations: `make mutants`.

`python tests/mutants.py [WORD …]`: words choose the mutants whose names hold one. A mutant is a copy of the package
with one line changed, in a process of its own. It is caught when numbers of `test_golden.py` are wrong there, all of
which are right without the change.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
LIST = Path(__file__).with_suffix(".txt")

SHARED = ("ase.build", "e3nn.o3", "hypothesis", "msgspec", "safetensors", "scipy.sparse", "torchpme", "vesin", "yaml")
"""Imported once, before processes fork; never the package itself."""


class Mutant(NamedTuple):
    """A line of a file of the package that stands there once, what it becomes, and the golden models that see it."""

    name: str
    file: str
    right: str
    wrong: str
    models: str
    fused: bool


def listed() -> list[Mutant]:
    """Those of `mutants.txt`."""
    found, file = [], ""
    for block in LIST.read_text(encoding="utf-8").strip().split("\n\n")[1:]:
        lines = block.splitlines()
        if lines[0].startswith("# "):
            file = lines[0][2:]
            continue
        name, models = lines[0].split(" | ")
        right, wrong = (line[2:] for line in lines[1:])
        found.append(Mutant(name, file, right, wrong, models.removeprefix("fused "), models.startswith("fused ")))
    return found


def tests_of(mutant: Mutant) -> list[str]:
    """The golden models of a mutant: the one that is called so, or else those whose names hold the word."""
    from golden import SWITCHES  # imports the package: only ever in a child
    from test_golden import FUSED

    function = "test_fused_kernels_give_them_too" if mutant.fused else "test_numbers_are_those_of_the_equations"
    names = FUSED if mutant.fused else list(SWITCHES)
    names = [mutant.models] if mutant.models in names else [name for name in names if mutant.models in name]
    return [f"::{function}[{name}]" for name in names]


def outcome(mutant: Mutant | None, folder: Path) -> int:
    """The exit status of pytest, in a child of this process, which has imported what takes long."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 70
    try:
        silent = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        os.chdir(folder)
        sys.path[:0] = [str(folder), str(folder / "tests")]
        if mutant and mutant.fused:
            os.environ["MLANET_CACHE"] = str(folder / "cache")
        tests = [f"{folder}/tests/test_golden.py{one}" for one in (tests_of(mutant) if mutant else [""])]
        status = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), *tests])
    finally:
        os._exit(int(status))


def judge(mutant: Mutant, folder: Path) -> str:
    """What became of one: empty if it was caught."""
    file = folder / "mlanet" / mutant.file
    text = file.read_text()
    if text.count(mutant.right) != 1:
        return f"its line stands {text.count(mutant.right)} times in {mutant.file}"
    file.write_text(text.replace(mutant.right, mutant.wrong))
    try:
        status = outcome(mutant, folder)
    finally:
        file.write_text(text)
    said = (folder / "output.txt").read_text()
    if status == 1 and "AssertionError" in said:
        return ""
    return "not caught" if status == 0 else f"cannot be judged: {said[-600:]}"


def main(*words: str) -> int:
    """0 if all were caught."""
    for name in SHARED:
        importlib.import_module(name)
    torch.set_num_threads(1)
    sys.dont_write_bytecode = True  # a change within a second would be taken for what was there before
    chosen = [one for one in listed() if not words or any(word in one.name for word in words)]
    survivors = 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name in ("mlanet", "irreps_configs", "tests"):
            shutil.copytree(ROOT / name, folder / name)
        for name in ("pyproject.toml", "conftest.py"):
            shutil.copy(ROOT / name, folder / name)
        for mutant in chosen:
            why = judge(mutant, folder)
            survivors += bool(why)
            print(f"{'SURVIVES' if why else 'caught  '}  {mutant.name}{': ' if why else ''}{why}", flush=True)
        if outcome(None, folder):
            print((folder / "output.txt").read_text()[-3000:])
            print("without a change the tests do not pass either")
            return 2
    print(f"{len(chosen) - survivors} of {len(chosen)} mutants caught")
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
