"""Who hears that a compiler runs; imports nothing, so that the command line can listen before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable

LISTENERS: list[Callable[[str], object]] = []
"""Are handed a line before a compiler is asked, which takes long enough to wonder."""


def announce(message: str) -> None:
    """Hand a line to all of them."""
    for listener in LISTENERS:
        listener(message)
