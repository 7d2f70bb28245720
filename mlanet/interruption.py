"""SIGTERM and SIGUSR1 for long work: noticed at once, acted upon between steps."""

from __future__ import annotations

import contextlib
import signal
from types import FrameType


class Signals:
    """SIGTERM asks to stop, SIGUSR1 to save; both are looked at between steps, handlers restored at the end."""

    def __init__(self) -> None:
        self._stop = self._save = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> Signals:
        # Only the main thread may install handlers; elsewhere signals are left alone.
        with contextlib.suppress(ValueError):
            for number in (signal.SIGTERM, signal.SIGUSR1):
                self._before[number] = signal.signal(number, self._noticed)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _noticed(self, number: int, _: FrameType | None) -> None:
        self._stop |= number == signal.SIGTERM
        self._save |= number == signal.SIGUSR1

    def take_stop(self) -> bool:
        """Whether SIGTERM has come."""
        return self._stop

    def take_save(self) -> bool:
        """Whether SIGUSR1 has come since the last look."""
        asked, self._save = self._save, False
        return asked
