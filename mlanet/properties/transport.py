"""Diffusion against temperature: activation energy and prefactor by Arrhenius, conductivity by Nernst and Einstein."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from ase.units import _e, kB
from numpy.typing import NDArray

from mlanet.dynamics.diffusion import Diffusion
from mlanet.errors import DataError

Array = NDArray[np.float64]
FEWEST = 2
"""Temperatures that a fit needs."""
CERTAIN = 2.0
"""Standard errors by which D must exceed zero."""
HOPPED = 1.0
"""Å² of mean squared displacement, within the time fitted, below which atoms have only vibrated."""
DIFFUSIVE = (0.6, 1.5)
"""Exponents of t in the mean squared displacement that count as 1."""
SAME_TEMPERATURE = 0.025
"""Relative difference up to which runs count as at one temperature."""


class Mobility(NamedTuple):
    """D of one element at one temperature.

    - temperature K · coefficient, error m²/s · runs: how many trajectories · displaced: Å², mean squared, at the end of
      the time fitted · exponent: of t in the mean squared displacement, 1 where atoms diffuse
    - density 1/Å³, atoms of the element per volume, NaN without a cell
    - doubt: why this is no diffusion coefficient, in words; empty where it is one
    """

    element: str
    temperature: float
    coefficient: float
    error: float
    runs: int
    displaced: float
    exponent: float
    density: float
    doubt: str

    def conductivity(self, charge: float) -> tuple[float, float]:
        """σ = n q² D / (k_B T) of Nernst and Einstein, and its standard error, S/m; charge in e."""
        each = self.density * 1e30 * (charge * _e) ** 2 / (kB * self.temperature * _e)
        return each * self.coefficient, each * self.error


class Sample(NamedTuple):
    """What one trajectory says of one element: its D, mean temperature K, and atoms of the element per Å³."""

    found: Diffusion
    temperature: float
    density: float


def mobilities(samples: Sequence[Sample]) -> list[Mobility]:
    """One for each element and temperature, by element and then by temperature.

    Trajectories at one temperature (up to 2.5 %) are averaged. Their standard error is that of the mean of their own;
    with three and more, that of their scatter where it is larger.
    """
    result = []
    for element in dict.fromkeys(sample.found.element for sample in samples):
        own = sorted((sample for sample in samples if sample.found.element == element), key=lambda one: one.temperature)
        group: list[Sample] = []
        for sample in own:
            if group and sample.temperature > (1 + SAME_TEMPERATURE) * group[-1].temperature:
                result.append(_averaged(group))
                group = []
            group.append(sample)
        result.append(_averaged(group))
    return result


def _averaged(group: Sequence[Sample]) -> Mobility:
    values = np.array([run.found.coefficient for run in group])
    error = float(np.sqrt(sum(run.found.error**2 for run in group))) / len(group)
    if len(group) > 2:
        error = max(error, float(values.std(ddof=1) / np.sqrt(len(group))))
    ends = [_course(run.found) for run in group]
    displaced, exponent = (float(np.mean([end[k] for end in ends])) for k in (0, 1))
    mean, time = float(values.mean()), float(np.mean([run.found.window[1] for run in group]))
    return Mobility(
        element=group[0].found.element,
        temperature=float(np.mean([run.temperature for run in group])),
        coefficient=mean,
        error=error,
        runs=len(group),
        displaced=displaced,
        exponent=exponent,
        density=float(np.mean([run.density for run in group])),
        doubt=_doubt(mean, error, displaced, exponent, time),
    )


def _course(diffusion: Diffusion) -> tuple[float, float]:
    """Å² at the end of the fit's window, and the exponent within it."""
    inside = (diffusion.lag >= diffusion.window[0]) & (diffusion.lag <= diffusion.window[1]) & (diffusion.msd > 0)
    if inside.sum() < 2:
        return 0.0, 0.0
    slope = np.polyfit(np.log(diffusion.lag[inside]), np.log(diffusion.msd[inside]), 1)[0]
    return float(diffusion.msd[inside][-1]), float(slope)


def _doubt(coefficient: float, error: float, displaced: float, exponent: float, time: float) -> str:
    """Why D is none, in words; empty where it is one."""
    if displaced < HOPPED:
        return (
            f"too small to tell: in {time:.3g} ps atoms move by {np.sqrt(displaced):.2f} Å (root mean square), "
            "which is vibration; run longer or hotter"
        )
    if exponent < DIFFUSIVE[0]:
        return f"too short to tell: displacements grow as t^{exponent:.2f}, not t, within {time:.3g} ps; run longer"
    if exponent > DIFFUSIVE[1]:
        return f"too short to tell: atoms still fly or drift (displacements grow as t^{exponent:.2f}); run longer"
    if coefficient < CERTAIN * error:
        bound = max(coefficient, 0.0) + CERTAIN * error
        return f"too uncertain to tell: D is below {bound:.1e} m²/s; run longer or more often"
    return ""


@dataclass(frozen=True)
class Arrhenius:
    """D = D₀ exp(−E_a/(k_B T)) through the temperatures at which D is known.

    - energy, energy_error eV · log_prefactor: ln(D₀ / (m²/s)), and its covariance (2, 2) with E_a · points: how many
    - misfit: root of χ² per degree of freedom, NaN with two points; errors are wider by it where it exceeds 1
    """

    element: str
    energy: float
    log_prefactor: float
    covariance: Array
    points: int
    misfit: float

    @property
    def energy_error(self) -> float:
        """eV."""
        return float(np.sqrt(self.covariance[1, 1]))

    @property
    def prefactor(self) -> float:
        """D₀, m²/s."""
        return float(np.exp(self.log_prefactor))

    @property
    def prefactor_error(self) -> float:
        """m²/s, to first order."""
        return self.prefactor * float(np.sqrt(self.covariance[0, 0]))

    def at(self, temperature: float) -> tuple[float, float]:
        """D and its standard error (to first order) at a temperature in K, m²/s."""
        row = np.array([1.0, -1.0 / (kB * temperature)])
        value = float(np.exp(row @ [self.log_prefactor, self.energy]))
        return value, value * float(np.sqrt(row @ self.covariance @ row))

    @property
    def numbers(self) -> dict[str, object]:
        """With units in the names."""
        return {
            "element": self.element,
            "activation_energy_eV": self.energy,
            "activation_energy_error_eV": self.energy_error,
            "prefactor_m2_per_s": self.prefactor,
            "prefactor_error_m2_per_s": self.prefactor_error,
            "temperatures": self.points,
            "misfit": self.misfit if np.isfinite(self.misfit) else None,
        }


def arrhenius(points: Sequence[Mobility]) -> Arrhenius:
    """The straight line of ln D against 1/(k_B T), weighted by the errors of D; points in doubt are left out.

    Args:
        points: of one element.
    Raises:
        DataError: fewer than two temperatures at which D is known.
    """
    kept = [point for point in points if not point.doubt]
    element = points[0].element if points else "?"
    if len(kept) < FEWEST:
        raise DataError(
            f"{element}: D is known at {len(kept)} of {len(points)} temperatures; an activation energy needs two"
        )
    temperatures = np.array([point.temperature for point in kept])
    values = np.array([point.coefficient for point in kept])
    weights = values / np.maximum([point.error for point in kept], 1e-3 * values)  # 1/σ of ln D
    design = np.stack([np.ones(len(kept)), -1 / (kB * temperatures)], axis=1) * weights[:, None]
    target = np.log(values) * weights
    # Scaled columns: D₀ and E_a are of other sizes, and nearly one direction.
    scale = np.linalg.norm(design, axis=0)
    solution, *_ = np.linalg.lstsq(design / scale, target, rcond=None)
    inverse = np.linalg.inv((design / scale).T @ (design / scale))
    free = len(kept) - 2
    off = (design / scale) @ solution - target
    misfit = float(np.sqrt(off @ off / free)) if free else float("nan")
    covariance = inverse / np.outer(scale, scale) * max(1.0, np.nan_to_num(misfit) ** 2)
    intercept, energy = solution / scale
    return Arrhenius(element, float(energy), float(intercept), covariance, len(kept), misfit)
