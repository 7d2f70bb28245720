"""A LAMMPS input run in this process with a model as its potential.

LAMMPS reads its input to the end before it returns, and a callback can be set only after its fix was made. So the
translated input includes two named pipes at that place. While LAMMPS waits for lines of the first, a thread here makes
the potential and writes the commands for its fix; while it waits for the second, which stays empty, the thread sets the
callback. LAMMPS closes each before it opens the other, so neither side can run ahead.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mlanet.calculator import MLANetCalculator
from mlanet.errors import ConfigError, MLANetError
from mlanet.lammps.external import Attached
from mlanet.lammps.program import errors_of_lammps
from mlanet.lammps.translate import WORDS, files_of, translated


class Run:
    """One LAMMPS, and what was attached to it.

    Args:
        lmp: open, of one process.
        calculator: makes the potential of a model's name.
        model: for inputs that name none · elements: likewise · charge: e
    """

    def __init__(
        self,
        lmp: Any,
        calculator: Callable[[str], MLANetCalculator],
        model: str,
        elements: Sequence[str] | None = None,
        charge: float = 0.0,
    ) -> None:
        self.lmp, self.calculator, self.model = lmp, calculator, model
        self.elements, self.charge = elements, charge
        self.attached: list[Attached] = []
        self._made: dict[str, MLANetCalculator] = {}
        self._failure: BaseException | None = None
        self._over = False

    def file(self, path: Path) -> None:
        """Run an input to its end.

        Raises:
            DataError: an input that cannot be read or asks for what one process cannot do.
            EngineError: LAMMPS stops with an error; other errors: as `attach`, or as the potential at a step.
        """
        if not hasattr(os, "mkfifo"):
            raise ConfigError("this system has no named pipes; use mlanet.lammps.attach from Python (docs/lammps.md)")
        with tempfile.TemporaryDirectory(prefix="mlanet-lammps-") as name:
            folder = Path(name)
            talk, connect = folder / "talk", folder / "connect"
            texts = translated(files_of(path), folder, [talk, connect])
            for place, text in texts.items():
                place.write_text(text, encoding="utf-8")
            os.mkfifo(talk)
            os.mkfifo(connect)
            thread = threading.Thread(target=self._listen, args=(talk, connect), daemon=True)
            thread.start()
            try:
                self._run(next(iter(texts)), path)
            finally:
                self._end(thread, [talk, connect])

    def _run(self, place: Path, path: Path) -> None:
        try:
            with errors_of_lammps(str(path)):
                self.lmp.file(str(place))
        except MLANetError:
            self._raise_own()
            raise
        self._raise_own()

    def _raise_own(self) -> None:
        """What this package found comes before what LAMMPS says after it."""
        if self._failure is not None:
            raise self._failure from None
        for fix in self.attached:
            fix.require_sound()

    def _listen(self, talk: Path, connect: Path) -> None:
        """Answer until the run is over; where a signal broke a pipe, LAMMPS is let go on to its end."""
        try:
            self._answer(talk, connect)
        except OSError as error:
            self._failure = self._failure or error
            os.close(os.open(connect, os.O_RDWR | os.O_NONBLOCK))

    def _answer(self, talk: Path, connect: Path) -> None:
        """For every time that LAMMPS asks: lines for the fix, then its callback; in a thread of its own."""
        while True:
            with talk.open("w") as pipe:  # opens when LAMMPS comes to read
                if self._over:
                    return
                try:
                    attached = self._attach()
                    pipe.write("\n".join([*attached.commands(), ""]))
                except BaseException as error:
                    self._failure = error
                    self.lmp.set_show_error(0)
                    pipe.write("stopped_by_mlanet\n")
                    return
            with connect.open("w"):
                if self._over:
                    return
                attached.connect()
                self.attached.append(attached)

    def _attach(self) -> Attached:
        words = (self.lmp.extract_variable(WORDS) or "").split()
        model, elements = (words[0], words[1:] or self.elements) if words else (self.model, self.elements)
        if model not in self._made:
            self._made[model] = self.calculator(model)
        return Attached(self.lmp, self._made[model], elements, self.charge)

    def _end(self, thread: threading.Thread, pipes: list[Path]) -> None:
        """Let the thread see that nobody will ask again."""
        self._over = True
        readers = [os.open(pipe, os.O_RDONLY | os.O_NONBLOCK) for pipe in pipes]
        thread.join(timeout=5.0)
        for reader in readers:
            os.close(reader)
