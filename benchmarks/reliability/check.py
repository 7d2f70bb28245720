"""What a check is: a promise, its limit, and how the figure that is reached is measured."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Outcome:
    """- figure: what was reached, in words · holds: whether the promise is kept, None where it was not measured"""

    figure: str
    holds: bool | None


@dataclass(frozen=True)
class Check:
    """One row of docs/reliability.md.

    - number: 1 to 60 · promise: what holds · limit: the figure that is promised · measure: how to find what is reached
    - long: minutes or more, so only measured when asked for by its number or with `--long`
    """

    number: int
    promise: str
    limit: str
    measure: Callable[[], Outcome]
    long: bool = False


def within(limits: dict[str, float], reached: dict[str, float]) -> Outcome:
    """Figures by name, each beside its limit; NaN is never within one."""
    figure = ", ".join(f"{value:.1e}{f' ({name})' if name else ''}" for name, value in reached.items())
    return Outcome(figure, all(value <= limits[name] for name, value in reached.items()))


def tests(*nodes: str) -> Callable[[], Outcome]:
    """A promise kept by tests that assert it: how many pass. Each node is a file, or a file and a test, of `tests/`."""

    def run() -> Outcome:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(f"tests/{node}" for node in nodes)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False)
        lines = done.stdout.strip().splitlines()
        counts = {word: int(count) for count, word in re.findall(r"(\d+) (\w+)", lines[-1] if lines else "")}
        passed = counts.get("passed", 0)
        total = passed + counts.get("failed", 0) + counts.get("error", 0) + counts.get("errors", 0)
        figure = f"{passed} of {total} tests pass"
        if counts.get("skipped"):
            figure += f", {counts['skipped']} need what is not here"
        return Outcome(figure, done.returncode == 0 and passed > 0)

    return run


def not_here(reason: str) -> Callable[[], Outcome]:
    """A promise that this machine cannot measure."""
    return lambda: Outcome(reason, None)
