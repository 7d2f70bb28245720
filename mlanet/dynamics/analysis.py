"""One trajectory, alone or against a reference: distributions, errors, stability and diffusion."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path

import msgspec
import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlanet.data.read import read_frames
from mlanet.dynamics.angles import Angles, angle_distribution
from mlanet.dynamics.diffusion import Diffusion, diffusion, require_increasing
from mlanet.dynamics.distributions import Distribution, distance_distribution, integral_error, rdf
from mlanet.dynamics.spectrum import Spectrum, has_velocities, spectral_distance, velocity_spectrum
from mlanet.dynamics.stability import intact_time, stable_time
from mlanet.errors import DataError
from mlanet.units import EV_PER_CUBIC_ANGSTROM_IN_GPA

Array = NDArray[np.float64]
MOST_FRAMES = 400
"""Of a reference, and for h(r): more change averages by less than their noise."""
WHOLE = "all"


class AnalysisOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to look at a trajectory."""

    r_max: float = 6.0
    """Å, of g(r)."""
    tau: float = 1.0
    """ps, window of the stability criterion."""
    threshold: float = 1.0
    """Å, of ∫|Δg| dr beyond which the structure counts as lost; 3 for water, 1 for crystals, in the source."""
    diffusion: str = ""
    """Element whose self-diffusion is wanted."""
    discard: float = 0.0
    """ps at the beginning that distributions and diffusion leave out."""
    interval: float = 0.0
    """fs between frames, for trajectories that do not say it."""


@dataclass
class Analysis:
    """What was found. Distributions by name: `all`, and element pairs as `O-H`; g(r) only of periodic structures."""

    times: Array
    numbers: dict[str, float] = field(default_factory=dict)
    g: dict[str, Distribution] = field(default_factory=dict)
    g_reference: dict[str, Distribution] = field(default_factory=dict)
    h: Distribution | None = None
    h_reference: Distribution | None = None
    diffusion: Diffusion | None = None
    angles: Angles | None = None
    angles_reference: Angles | None = None
    spectrum: Spectrum | None = None
    spectrum_reference: Spectrum | None = None


def analyse(trajectory: Path, reference: Path | None, options: AnalysisOptions) -> Analysis:
    """Read and analyse.

    Numbers: frames, time_ps, rdf_error_A (∫|Δg| dr), rdf_mae (the same over r_max), h_error (∫|Δh| dr), angle_error
    (∫|Δp| dθ), vdos_distance_THz (Wasserstein) and vdos_error (the same over the reference's width), pressure_GPa and
    pressure_std_GPa (and of the reference), stable_ps, diffusion_m2_per_s and its error.

    Raises:
        DataError: files that cannot be read, or that are of different substances.
    """
    frames = [frame.atoms for frame in read_frames(trajectory)]
    times = frame_times(frames, options.interval, trajectory)
    if options.diffusion or options.discard or reference is not None:
        _require_order(times, trajectory)
    all_known = [] if reference is None else [frame.atoms for frame in read_frames(reference)]
    known = _thinned(all_known)
    if known and sorted(known[0].numbers) != sorted(frames[0].numbers):
        formulas = (known[0].get_chemical_formula(), frames[0].get_chemical_formula())
        raise DataError(f"{reference}: is of {formulas[0]}, the trajectory of {formulas[1]}")
    result = Analysis(times, {"frames": float(len(frames)), "time_ps": float(times[-1])})
    late = [frame for frame, t in zip(frames, times, strict=True) if t >= times[0] + options.discard]
    if not late:
        raise DataError(f"no frame is left after {options.discard} ps")
    if frames[0].pbc.all():
        _radial(result, frames, late, known, options)
    if len(frames[0]) > 1:
        result.h = distance_distribution(_thinned(late))
        if known:
            result.h_reference = distance_distribution(known)
            result.numbers["h_error"] = integral_error(result.h.mean, result.h_reference.mean, result.h.width)
    _bent(result, late, known)
    _vibrating(result, times[-len(late) :], late, all_known, options)
    _pressed(result, late, known)
    if known and not frames[0].pbc.any():
        result.numbers["stable_ps"] = intact_time(times, frames, known)
    if options.diffusion:
        result.diffusion = diffusion(times, frames, options.diffusion, discard=options.discard)
        result.numbers["diffusion_m2_per_s"] = result.diffusion.coefficient
        result.numbers["diffusion_error_m2_per_s"] = result.diffusion.error
    return result


def frame_times(frames: Sequence[Atoms], interval: float, source: Path) -> Array:
    """(T,) ps: what the frames say, or a given interval (fs) times their index.

    Raises:
        DataError: neither, or both and they differ.
    """
    said = [frame.info.get("time_ps") for frame in frames]
    if all(isinstance(t, Real) and math.isfinite(t) for t in said):
        times = np.asarray(said, dtype=np.float64)
        spacing = 1e3 * float(np.median(np.diff(times))) if len(times) > 1 else interval
        if interval > 0 and abs(spacing - interval) > 0.01 * interval:
            raise DataError(f"{source}: the frames say that they are {spacing:.6g} fs apart, not {interval:.6g}")
        return times
    if interval <= 0:
        raise DataError(f"{source}: the frames do not say their time; give the interval between them in fs")
    return np.arange(len(frames), dtype=np.float64) * (1e-3 * interval)


def _require_order(times: Array, source: Path) -> None:
    """Name the file in which frames are not in the order of time."""
    try:
        require_increasing(times)
    except DataError as error:
        raise DataError(f"{source}, {error}") from None


def _radial(
    result: Analysis, frames: Sequence[Atoms], late: Sequence[Atoms], known: Sequence[Atoms], options: AnalysisOptions
) -> None:
    """g(r) of everything and of the pairs, and what follows against a reference."""
    symbols = sorted(set(frames[0].symbols))
    pairs: dict[str, tuple[str, str] | None] = {WHOLE: None}
    if len(symbols) > 1:
        pairs |= {f"{a}-{b}": (a, b) for a, b in itertools.combinations_with_replacement(symbols, 2)}
    thin = _thinned(late)
    for name, pair in pairs.items():
        result.g[name] = rdf(thin, pair=pair, r_max=options.r_max)
        if known:
            result.g_reference[name] = rdf(known, pair=pair, r_max=options.r_max)
    if known:
        given, wanted = result.g[WHOLE], result.g_reference[WHOLE]
        error = integral_error(given.mean, wanted.mean, given.width)
        result.numbers |= {"rdf_error_A": error, "rdf_mae": error / options.r_max}
        if result.times[-1] - result.times[0] >= options.tau:
            whole = rdf(frames, r_max=options.r_max)
            result.numbers["stable_ps"] = stable_time(result.times, whole, wanted, options.tau, options.threshold)


def _bent(result: Analysis, late: Sequence[Atoms], known: Sequence[Atoms]) -> None:
    """Angles between bonds, where there are any."""
    with contextlib.suppress(DataError):
        result.angles = angle_distribution(_thinned(late))
        if known:
            result.angles_reference = angle_distribution(known)
            mine, theirs = result.angles, result.angles_reference
            width = float(mine.angle[1] - mine.angle[0])
            result.numbers["angle_error"] = integral_error(mine.density, theirs.density, width)


def _vibrating(
    result: Analysis, times: Array, late: Sequence[Atoms], known: Sequence[Atoms], options: AnalysisOptions
) -> None:
    """Spectra of velocities, both from momenta or both from positions, where frames are many and evenly spaced."""
    plain = bool(known) and not (has_velocities(late) and has_velocities(known))
    with contextlib.suppress(DataError):
        result.spectrum = velocity_spectrum(times, late, from_positions=plain)
        if known:
            when = frame_times(known, options.interval if options.interval > 0 else 0.0, Path("reference"))
            result.spectrum_reference = velocity_spectrum(when, known, from_positions=plain)
            distance = spectral_distance(result.spectrum, result.spectrum_reference)
            width = result.spectrum_reference.width
            result.numbers |= {"vdos_distance_THz": distance, "vdos_error": distance / width if width else math.nan}


def _pressed(result: Analysis, late: Sequence[Atoms], known: Sequence[Atoms]) -> None:
    """Mean pressure and its fluctuation, with that of the motion where frames have momenta."""
    for frames, end in ((late, ""), (known, "_reference")):
        values = _pressures(frames)
        if values is not None:
            result.numbers |= {
                f"pressure{end}_GPa": float(values.mean()),
                f"pressure_std{end}_GPa": float(values.std()),
            }


def _pressures(frames: Sequence[Atoms]) -> Array | None:
    """(T,) GPa, or None where a frame has no stress."""
    if not frames or any("stress" not in getattr(frame.calc, "results", {}) for frame in frames):
        return None
    motion = has_velocities(frames)
    stress = [frame.get_stress(apply_constraint=False, include_ideal_gas=motion)[:3].mean() for frame in frames]
    return -np.array(stress) * EV_PER_CUBIC_ANGSTROM_IN_GPA


def _thinned(frames: Sequence[Atoms]) -> list[Atoms]:
    """At most MOST_FRAMES, evenly spaced."""
    if len(frames) <= MOST_FRAMES:
        return list(frames)
    return [frames[index] for index in np.linspace(0, len(frames) - 1, MOST_FRAMES).astype(int)]
