"""Distributions and displacements as CSV."""

from __future__ import annotations

from pathlib import Path

from mlanet.dynamics.analysis import Analysis
from mlanet.files import write_columns


def write_tables(folder: Path, analysis: Analysis) -> list[Path]:
    """`rdf.csv`, `h.csv`, `angles.csv`, `vdos.csv`, `msd.csv`, whichever there are; of a reference: `_reference`.

    Raises:
        OutputError: the folder cannot be written.
    """
    written = []
    if analysis.g:
        columns = {"r_A": next(iter(analysis.g.values())).r}
        columns |= {f"g_{name}": g.mean for name, g in analysis.g.items()}
        columns |= {f"g_{name}_reference": g.mean for name, g in analysis.g_reference.items()}
        written.append(write_columns(folder / "rdf.csv", columns))
    if analysis.h is not None:
        columns = {"r_A": analysis.h.r, "h_per_A": analysis.h.mean}
        columns |= {} if analysis.h_reference is None else {"h_per_A_reference": analysis.h_reference.mean}
        written.append(write_columns(folder / "h.csv", columns))
    if analysis.angles is not None:
        columns = {"angle_deg": analysis.angles.angle, "p_per_deg": analysis.angles.density}
        if analysis.angles_reference is not None:
            columns["p_per_deg_reference"] = analysis.angles_reference.density
        written.append(write_columns(folder / "angles.csv", columns))
    for spectrum, end in ((analysis.spectrum, ""), (analysis.spectrum_reference, "_reference")):
        if spectrum is not None:
            columns = {"frequency_THz": spectrum.frequency, "density_per_THz": spectrum.density}
            written.append(write_columns(folder / f"vdos{end}.csv", columns))
    if analysis.diffusion is not None:
        written.append(
            write_columns(folder / "msd.csv", {"lag_ps": analysis.diffusion.lag, "msd_A2": analysis.diffusion.msd})
        )
    return written
