"""A C++ compiler that is quick, because it does not optimise, for tests that look at what is done with its library."""

from __future__ import annotations

import shutil
from pathlib import Path

CHEAP = "-O1"
"""What the tests compile with: half the time of what users get, which only tests marked slow look at."""
COMPILER = shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")


def quick_compiler(place: Path, before: str = "") -> Path:
    """A script that does something else first; its path."""
    place.write_text(
        f'#!/bin/sh\ncase "$*" in *--version*) exec {COMPILER} --version;; esac\n{before}\nexec {COMPILER} "$@" -O0\n'
    )
    place.chmod(0o755)
    return place
