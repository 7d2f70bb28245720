"""`mlanet trajectory`: distributions, errors against a reference, stability and diffusion of a trajectory."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlanet.cli.options import Json, Picture
from mlanet.cli.output import answer, print_pairs

if TYPE_CHECKING:
    from mlanet.dynamics.analysis import Analysis
    from mlanet.plots import Drawing

MEANING = {
    "frames": ("frames", "{:.0f}"),
    "time_ps": ("time, ps", "{:.4g}"),
    "rdf_error_A": ("∫|Δg(r)| dr, Å", "{:.4f}"),
    "rdf_mae": ("mean |Δg(r)|", "{:.4f}"),
    "h_error": ("∫|Δh(r)| dr", "{:.4f}"),
    "angle_error": ("∫|Δp(θ)| dθ", "{:.4f}"),
    "vdos_distance_THz": ("distance of velocity spectra, THz", "{:.4f}"),
    "vdos_error": ("  over the width of the reference", "{:.4f}"),
    "pressure_GPa": ("pressure, GPa", "{:.4g}"),
    "pressure_std_GPa": ("  its fluctuation, GPa", "{:.4g}"),
    "pressure_reference_GPa": ("pressure of the reference, GPa", "{:.4g}"),
    "pressure_std_reference_GPa": ("  its fluctuation, GPa", "{:.4g}"),
    "stable_ps": ("stable for, ps", "{:.4g}"),
    "diffusion_m2_per_s": ("D, m²/s", "{:.3e}"),
    "diffusion_error_m2_per_s": ("± , m²/s", "{:.1e}"),
}


def trajectory(
    file: Annotated[Path, typer.Argument(help="Trajectory: extxyz, traj … (also .xz, .gz).")],
    reference: Annotated[
        Path | None, typer.Option("--reference", "-r", help="Frames of the same substance, e.g. from ab-initio MD.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for CSV files and pictures.")] = None,
    diffusion: Annotated[str, typer.Option(help="Element whose self-diffusion is wanted, e.g. Li.")] = "",
    discard: Annotated[float, typer.Option(help="ps at the beginning to leave out.", min=0.0)] = 0.0,
    interval: Annotated[
        float, typer.Option(help="fs between frames, where they do not say their time.", min=0.0)
    ] = 0.0,
    r_max: Annotated[float, typer.Option(help="Å, of g(r).", min=1.0)] = 6.0,
    tau: Annotated[float, typer.Option(help="Stability: ps that g(r) is averaged over.")] = 1.0,
    threshold: Annotated[float, typer.Option(help="Stability: Å of ∫|Δg| dr; 3 for water, 1 for crystals.")] = 1.0,
    picture: Picture = True,
    json: Json = False,
) -> None:
    """Analyse FILE: g(r), h(r), angles, velocity spectrum, pressure, and against --reference their errors.

    Definitions of arXiv 2210.07237. A periodic trajectory is stable until the average g(r) of a window differs from
    the reference by more than the threshold, a molecule until a bond is off by 0.5 Å.
    """
    from mlanet.dynamics.analysis import AnalysisOptions, analyse
    from mlanet.dynamics.tables import write_tables

    options = AnalysisOptions(
        r_max=r_max, tau=tau, threshold=threshold, diffusion=diffusion, discard=discard, interval=interval
    )
    analysis = analyse(file, reference, options)
    written = [] if output is None else write_tables(output, analysis)
    pictures = _pictures(output, analysis) if picture and output is not None else []
    document = {"trajectory": file, "reference": reference, **analysis.numbers, "files": written}
    names = [(MEANING[name], value) for name, value in analysis.numbers.items()]
    rows = [(name, form.format(value)) for (name, form), value in names]
    answer(document, functools.partial(print_pairs, "", rows), written, pictures, json)


def _pictures(folder: Path, analysis: Analysis) -> list[Drawing]:
    """Those that there is something for."""
    from mlanet.dynamics.plots import displacements, distributions, motions
    from mlanet.plots import Drawing

    wanted = {
        distributions: bool(analysis.g) or analysis.h is not None,
        motions: analysis.angles is not None or analysis.spectrum is not None,
        displacements: analysis.diffusion is not None,
    }
    places = {draw: folder / f"{draw.__name__}.png" for draw, there in wanted.items() if there}
    return [Drawing(place, functools.partial(draw, place, analysis)) for draw, place in places.items()]
