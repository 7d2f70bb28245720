"""What a run leaves behind for people: metrics.csv, log.jsonl, a learning-curve picture, TensorBoard on request."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mlanet.errors import CheckpointError, ConfigError, OutputError
from mlanet.files import append_whole, cut_back, end_of_lines, table_text, write_result, writing
from mlanet.plain import plain
from mlanet.plots import learning_curve
from mlanet.quantities import QUANTITIES

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

LOG = "log.jsonl"


class Report:
    """The files of one run's folder; other processes than the first write nothing.

    Raises:
        CheckpointError: the folder cannot be written.
    """

    def __init__(self, folder: Path, *, writes: bool, tensorboard: bool, shown: bool = False) -> None:
        self.folder, self.writes, self.shown = folder, writes, shown
        self._board = None
        self._torn = True
        if writes and tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise ConfigError("run.tensorboard needs the extra: pip install 'mlanet[tensorboard]'") from None

            self._board = SummaryWriter(str(folder / "tensorboard"))

    def tell(self, *lines: str) -> None:
        """Lines for people on stderr, unless they asked for quiet."""
        if self.writes and self.shown:
            print(*map(plain, lines), sep="\n", file=sys.stderr)

    def line(self, text: str) -> None:
        """One line on stderr where that is a file or a pipe; a terminal has the bar."""
        if not sys.stderr.isatty():
            self.tell(text)

    def log(self, event: str, **facts: Any) -> None:
        """One line of log.jsonl."""
        if not self.writes:
            return
        line = json.dumps({"event": event, **facts}, default=str)
        with writing(self.folder, CheckpointError):
            self.folder.mkdir(parents=True, exist_ok=True)
            if self._torn:  # a process that was killed may have left half a line
                cut_back(self.folder / LOG, end_of_lines(self.folder / LOG))
                self._torn = False
            append_whole(self.folder / LOG, (line + "\n").encode())

    def write(self, name: str, text: str) -> None:
        """A small text file, whole or not at all."""
        if self.writes:
            write_result(self.folder / name, text.encode(), CheckpointError)

    def metrics(self, rows: Sequence[Mapping[str, float]]) -> None:
        """All validations so far, as a table; the picture is drawn by `picture`."""
        self.write("metrics.csv", table_text(rows, end="\r\n"))
        if self._board is not None:
            for name, value in rows[-1].items():
                self._board.add_scalar(name, value, int(rows[-1]["step"]))

    def picture(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Loss and errors against steps; no training is lost for want of it."""
        if not (self.writes and rows):
            return
        try:
            learning_curve(self.folder / "learning_curve.png", rows)
        except OutputError as error:
            self.tell(f"warning: no picture: {error}")

    def close(self) -> None:
        """Flush TensorBoard."""
        if self._board is not None:
            self._board.close()


def errors_text(row: Mapping[str, float]) -> str:
    """` · E 1.20 meV/atom · F 34.5 meV/Å · σ 0.012 GPa`, those that there are.

    >>> errors_text({"valid_energy_mae": 0.0012, "valid_forces_mae": 0.0345})
    ' · E 1.20 meV/atom · F 34.5 meV/Å'
    """
    errors = [(quantity, row[name]) for quantity in QUANTITIES if (name := f"valid_{quantity.name}_mae") in row]
    words = [f"{one.symbol} {one.factor * error:.{one.digits}f} {one.compared}" for one, error in errors]
    return "".join(f" · {word}" for word in words)


def machine(device: torch.device) -> dict[str, str | int]:
    """Versions and hardware, for the log."""
    import ase
    import e3nn

    from mlanet.version import __version__

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "mlanet": __version__,
        "torch": torch.__version__,
        "e3nn": e3nn.__version__,
        "ase": ase.__version__,
        "python": platform.python_version(),
        "device": f"{device} ({name})",
        "threads": torch.get_num_threads(),
    }


@contextmanager
def progress_bar(shown: bool) -> Iterator[Bar]:
    """A bar on stderr with the latest errors beside it; nothing where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, disable=not (shown and console.is_terminal)) as bar:
        yield bar
