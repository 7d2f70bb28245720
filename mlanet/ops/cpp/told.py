"""Whom compiling is told to; imports nothing, so that the command line can say so before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable

TELL: list[Callable[[str], object]] = []
"""Are handed a line before a compiler is asked, which takes long enough to wonder."""


def tell(message: str) -> None:
    """Hand a line to all of them."""
    for listener in TELL:
        listener(message)
