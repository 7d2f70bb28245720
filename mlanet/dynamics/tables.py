"""Distributions and displacements as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlanet.dynamics.analysis import Analysis
from mlanet.errors import OutputError
from mlanet.files import write_whole

Array = NDArray[np.float64]


def write_tables(folder: Path, found: Analysis) -> list[Path]:
    """`rdf.csv`, `h.csv`, `msd.csv`, whichever there are; reference columns end in `_reference`.

    Raises:
        OutputError: the folder cannot be written.
    """
    written = []
    if found.g:
        columns = {"r_A": next(iter(found.g.values())).r}
        columns |= {f"g_{name}": one.mean for name, one in found.g.items()}
        columns |= {f"g_{name}_reference": one.mean for name, one in found.g_reference.items()}
        written.append(_write(folder / "rdf.csv", columns))
    if found.h is not None:
        columns = {"r_A": found.h.r, "h_per_A": found.h.mean}
        columns |= {} if found.h_reference is None else {"h_per_A_reference": found.h_reference.mean}
        written.append(_write(folder / "h.csv", columns))
    if found.diffusion is not None:
        written.append(_write(folder / "msd.csv", {"lag_ps": found.diffusion.lag, "msd_A2": found.diffusion.msd}))
    return written


def _write(path: Path, columns: dict[str, Array]) -> Path:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    rows: Sequence[Sequence[float]] = np.stack(list(columns.values()), axis=1).tolist()
    writer.writerows(rows)
    try:
        write_whole(path, text.getvalue().encode())
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from None
    return path
