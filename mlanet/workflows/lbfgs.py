"""L-BFGS for atoms and cell together, from what bonds and crystals usually resist."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from ase import Atoms
from ase.filters import Filter
from ase.optimize.optimize import Optimizer
from numpy.typing import NDArray

Vector = NDArray[np.float64]

BOND = 20.0
"""eV/Å²: curvature of the energy along the displacement of an atom, to begin with."""
MODULUS = 1.2
"""eV/Å³ (190 GPa): that of the energy per volume along a strain."""
MEMORY = 100
LONGEST = 0.2
"""Å, that the atom which moves farthest moves in a step."""
STRAIN = 0.02
"""That a step strains a cell by, at most."""
FARTHEST = 64.0
"""2ᵏ at most, of steps along which the gradient has not turned."""
SCALES = (0.2, 5.0)
"""What is measured may change the curvatures of the start by so much."""


class LBFGS(Optimizer):
    """Step −H g, H the inverse Hessian that the last steps s and changes y of the gradient tell of.

    H begins as D = diag(1/BOND) for atoms and N²/(V MODULUS) for a cell's coordinates N ln F, times
    <s, y> / <y, D y> of the last step (Nocedal and Wright, Numerical Optimization, algorithm 7.4 and eq. 7.20 with D in
    the place of 1). A step with <s, y> ≤ 0 tells of no minimum and is not remembered, so H stays positive and −H g goes
    downhill. After k such steps in a row, where D says nothing of how far the valley is,

        s = −2ᵏ H g min(1, 1 / max_i 2ᵏ |(H g)_i| / l_i),

    with l_i LONGEST of an atom and N STRAIN of a row of N ln F. A step is shortened as a whole, so <g, s> < 0 remains:
    atoms shortened one by one would leave the way in which H ties them to each other, uphill where they are crowded.

    Args:
        optimizable: what ASE's optimizers move.
        inverse: (3N,) the diagonal of D, see `usual_inverse`.
        longest: Å, l: one for all, or (N,), see `usual_longest`.
    """

    def __init__(self, optimizable: Any, inverse: Vector, longest: Vector | float = LONGEST) -> None:
        super().__init__(optimizable, logfile=None)
        self._inverse, self._longest = inverse, longest
        self._scale, self._farther = 1.0, 1.0
        self._pairs: deque[tuple[Vector, Vector]] = deque(maxlen=MEMORY)
        self._last: tuple[Vector, Vector] | None = None

    def step(self, forces: object = None) -> None:
        """One step; the gradient is asked of the optimizable."""
        place, gradient = self.optimizable.get_x(), self.optimizable.get_gradient()
        if self._last is not None:
            self._learn(place - self._last[0], gradient - self._last[1])
        self._last = place, gradient.copy()
        step = -self._farther * self._times_inverse(gradient).reshape(-1, 3)
        step /= max(1.0, float((np.linalg.norm(step, axis=1) / self._longest).max()))
        self.optimizable.set_x(place + step.ravel())

    def _learn(self, s: Vector, y: Vector) -> None:
        along = s @ y
        self._farther = 1.0 if along > 0 else min(2 * self._farther, FARTHEST)
        if along > 1e-12:
            self._pairs.append((s, y))
            self._scale = float(np.clip(along / (y @ (self._inverse * y)), *SCALES))

    def _times_inverse(self, gradient: Vector) -> Vector:
        """H g, by the two loops of the method."""
        q, shares = gradient.copy(), []
        for s, y in reversed(self._pairs):
            shares.append((s @ q) / (s @ y))
            q -= shares[-1] * y
        q *= self._scale * self._inverse
        for (s, y), share in zip(self._pairs, reversed(shares), strict=True):
            q += (share - (y @ q) / (s @ y)) * s
        return q


def usual_inverse(target: Atoms | Filter) -> Vector:
    """(3N,) of an `LBFGS` that moves atoms, and behind them the (9,) coordinates of a cell."""
    if isinstance(target, Atoms):
        return np.full(3 * len(target), 1 / BOND)
    n, volume = len(target.atoms), target.atoms.get_volume()
    return np.concatenate([np.full(3 * n, 1 / BOND), np.full(9, n * n / (volume * MODULUS))])


def usual_longest(target: Atoms | Filter) -> Vector:
    """(N,) Å of an `LBFGS` that moves atoms, and behind them the (3,) rows of a cell's coordinates."""
    if isinstance(target, Atoms):
        return np.full(len(target), LONGEST)
    n = len(target.atoms)
    return np.concatenate([np.full(n, LONGEST), np.full(3, n * STRAIN)])
