"""Distributions and displacements as CSV."""

from __future__ import annotations

from pathlib import Path

from mlanet.dynamics.analysis import Analysis
from mlanet.files import write_columns


def write_tables(folder: Path, found: Analysis) -> list[Path]:
    """`rdf.csv`, `h.csv`, `angles.csv`, `vdos.csv`, `msd.csv`, whichever there are; of a reference: `_reference`.

    Raises:
        OutputError: the folder cannot be written.
    """
    written = []
    if found.g:
        columns = {"r_A": next(iter(found.g.values())).r}
        columns |= {f"g_{name}": one.mean for name, one in found.g.items()}
        columns |= {f"g_{name}_reference": one.mean for name, one in found.g_reference.items()}
        written.append(write_columns(folder / "rdf.csv", columns))
    if found.h is not None:
        columns = {"r_A": found.h.r, "h_per_A": found.h.mean}
        columns |= {} if found.h_reference is None else {"h_per_A_reference": found.h_reference.mean}
        written.append(write_columns(folder / "h.csv", columns))
    if found.angles is not None:
        columns = {"angle_deg": found.angles.angle, "p_per_deg": found.angles.density}
        if found.angles_reference is not None:
            columns["p_per_deg_reference"] = found.angles_reference.density
        written.append(write_columns(folder / "angles.csv", columns))
    for spectrum, end in ((found.spectrum, ""), (found.spectrum_reference, "_reference")):
        if spectrum is not None:
            columns = {"frequency_THz": spectrum.frequency, "density_per_THz": spectrum.density}
            written.append(write_columns(folder / f"vdos{end}.csv", columns))
    if found.diffusion is not None:
        written.append(
            write_columns(folder / "msd.csv", {"lag_ps": found.diffusion.lag, "msd_A2": found.diffusion.msd})
        )
    return written
