"""What whoever hands out work and whoever does it have in common: a wait for each result, which may be lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from mlanet.errors import MLANetError

R = TypeVar("R")

AHEAD = 2
"""Parts for each process that are handed out before the first is back."""


class WorkerLostError(MLANetError):
    """A process that ended without an answer, for want of memory most likely."""


Handle = Callable[[], "R | WorkerLostError"]
"""Waits for a result."""
