"""`mlanet doctor`: what this installation is made of, for oneself and for a report of a fault."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping

from mlanet.cli.options import Json
from mlanet.cli.output import print_json, say

WIDTH = 80
NAMES = 21
"""Columns of the names on the left."""


def doctor(json: Json = False) -> None:
    """Show versions, devices, threads and packaged models, compute one small structure, and say what is missing."""
    from mlanet.workflows.describe import installation

    document = installation()
    if json:
        print_json(document)
        return
    for name, value in document.items():
        say(_folded(name, str(value)))
    for remedy in remedies(document):
        say("\n" + textwrap.fill(remedy, WIDTH))


def _folded(name: str, value: str) -> str:
    """A name and its value within 80 columns; long values go on below, indented."""
    return textwrap.fill(
        value, WIDTH, initial_indent=f"{name:<{NAMES}}", subsequent_indent=" " * NAMES, break_on_hyphens=False
    )


def remedies(document: Mapping[str, object]) -> Iterator[str]:
    """What to do about each thing that is not there or does not work."""
    if not str(document["fused kernels"]).startswith("work"):
        yield (
            "Fused kernels: install a C++ compiler (g++ or clang++; CXX names another). Until then everything works, "
            "several times slower."
        )
    if document["devices"] == "cpu":
        yield (
            "No GPU is seen. If this machine has one, install a CUDA build of PyTorch and its driver; "
            "`python -c 'import torch; print(torch.cuda.is_available())'` must print True."
        )
    if document["threads"] == 1 and document["cores"] != 1:
        yield "One thread of several cores is in use: OMP_NUM_THREADS sets how many."
    if document["a small computation"] != "works":
        yield (
            "The small computation is wrong: install the tested versions (in a clone: "
            "`pip install -c constraints.txt .`), "
            "and if it stays wrong, report it with this text."
        )
    if missing := [name for name, value in document.items() if value == "not installed"]:
        yield f"Not installed: {', '.join(missing)}. `pip install mlanet` brings them."
