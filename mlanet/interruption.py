"""SIGTERM, SIGUSR1 and Ctrl-C for long work: noticed at once, acted upon between steps."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

STOPPING = b"\nstopping after this step, and saving; Ctrl-C again stops at once\n"


class Signals:
    """SIGTERM asks to stop, SIGUSR1 to save; both are looked at between steps, handlers restored at the end."""

    def __init__(self) -> None:
        self._stop = self._save = False
        self.interrupted = False
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

    @contextlib.contextmanager
    def keyboard(self) -> Iterator[None]:
        """Meanwhile the first Ctrl-C asks to stop as SIGTERM does (`interrupted`); a second one is not waited for."""
        before = signal.getsignal(signal.SIGINT)

        def noticed(number: int, frame: FrameType | None) -> None:
            self._stop = self.interrupted = True
            signal.signal(signal.SIGINT, before)
            with contextlib.suppress(OSError):
                os.write(2, STOPPING)

        # Elsewhere than in the main thread, or where Ctrl-C is ignored (as behind nohup), it stays as it is.
        if before is signal.default_int_handler:
            with contextlib.suppress(ValueError):
                signal.signal(signal.SIGINT, noticed)
        try:
            yield
        finally:
            if signal.getsignal(signal.SIGINT) is noticed:
                signal.signal(signal.SIGINT, before)

    def _noticed(self, number: int, _: FrameType | None) -> None:
        self._stop |= number == signal.SIGTERM
        self._save |= number == signal.SIGUSR1

    def take_stop(self) -> bool:
        """Whether SIGTERM has come, or Ctrl-C while it was listened for."""
        return self._stop

    def take_save(self) -> bool:
        """Whether SIGUSR1 has come since the last look."""
        asked, self._save = self._save, False
        return asked
