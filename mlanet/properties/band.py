"""Energy barriers: the minimum energy path between two structures, by a band of images with a climbing one."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.build import minimize_rotation_and_translation
from ase.calculators.singlepoint import SinglePointCalculator
from ase.mep import NEB
from ase.optimize import FIRE
from ase.optimize.mdmin import MDMin
from ase.utils.forcecurve import fit_raw
from numpy.typing import NDArray

from mlanet.batched_potential import BatchedPotential
from mlanet.data.write import true_results
from mlanet.errors import GeometryError, named
from mlanet.properties.hops import SAME_PLACE, closest, matched
from mlanet.properties.rest import Rest, at_rest, batched_potential_of, require_gradient
from mlanet.workflows.relax import Step

METHOD = "improvedtangent"
SPRING = 0.1
"""eV/Å²."""
LOOSE = 0.3
"""eV/Å; below it the highest image begins to climb."""
MOST_PAIRED = 400
"""Atoms up to which the first guess keeps distances of all pairs (IDPP); above it is a straight line."""
OPTIMIZERS = {"mdmin": MDMin, "fire": FIRE}


@dataclass(frozen=True)
class Barrier:
    """A path and what it costs.

    - images: with energies and forces, the relaxed ends included · steps · force: eV/Å, the largest across the path
      (and on the climbing image) · converged: whether it is below what was asked
    - path (P,) Å, length along the path in all coordinates · energies (P,) eV above the start
    - curve_path, curve: the same between images, cubic by energies and forces (Henkelman and Jónsson 2000)
    """

    images: tuple[Atoms, ...]
    steps: int
    force: float
    converged: bool
    path: NDArray[np.float64]
    energies: NDArray[np.float64]
    curve_path: NDArray[np.float64]
    curve: NDArray[np.float64]

    @property
    def saddle(self) -> int:
        """Number of the highest image."""
        return int(np.argmax(self.energies))

    @property
    def forward(self) -> float:
        """eV, from the start to the highest image."""
        return float(self.energies.max())

    @property
    def back(self) -> float:
        """eV, from the end to the highest image."""
        return float(self.energies.max() - self.energies[-1])

    @property
    def minima(self) -> list[int]:
        """Numbers of images between that lie lower than both their neighbours, by more than 1 meV."""
        e = self.energies
        return [k for k in range(1, len(e) - 1) if e[k] < min(e[k - 1], e[k + 1]) - 1e-3]

    @property
    def numbers(self) -> dict[str, object]:
        """With units in the names."""
        return {
            "converged": self.converged,
            "barrier_eV": self.forward,
            "barrier_back_eV": self.back,
            "energy_difference_eV": float(self.energies[-1]),
            "curve_peak_eV": float(self.curve.max()),
            "saddle_image": self.saddle,
            "path_A": float(self.path[-1]),
            "max_force_eV_per_A": self.force,
            "steps": self.steps,
        }

    @property
    def remarks(self) -> list[str]:
        """What a reader of the numbers should know."""
        remarks = []
        if not self.converged:
            left = f"{self.force:.3g} eV/Å are left; the barrier is a guess"
            remarks.append(f"not converged after {self.steps} steps: {left}")
        if self.saddle in (0, len(self.energies) - 1):
            remarks.append("the energy is highest at an end: there is no barrier between these two")
        if self.minima:
            named = ", ".join(map(str, self.minima))
            remarks.append(
                f"a minimum at image {named}: relax it and compute the two paths to it, each with its barrier"
            )
        return remarks

    @property
    def profile(self) -> dict[str, NDArray[np.float64]]:
        """Columns of a table, units in the names."""
        return {"path_A": self.path, "energy_eV": self.energies}


class _Remembering(NEB):
    """ASE's band, which computes each set of positions once (optimisers ask more often), all images at a time."""

    latest: tuple[bool, NDArray[np.float64], NDArray[np.float64]] | None = None
    batched_potential: BatchedPotential | None = None

    def get_forces(self) -> NDArray[np.float64]:
        """(images between · N, 3) eV/Å, across the path and along the springs."""
        positions = self.get_positions()
        if self.latest is None or self.latest[0] != self.climb or not np.array_equal(self.latest[1], positions):
            if self.batched_potential is not None:
                for k, error in enumerate(self.batched_potential(self.images[1:-1]), start=1):
                    if error is not None:
                        raise named(error, f"image {k}")
            forces = super().get_forces()
            self.latest = (self.climb, self.get_positions(), forces.copy())
        return self.latest[2].copy()


class Band:
    """Images between two ends, and their way down to the minimum energy path.

    Args:
        start, end: the first with the calculator; not changed.
        images: how many, ends included.
        relax: relax the ends first, in their cell.
        rest: when the ends count as relaxed.
        names: of the ends, for errors.
        as_ordered: see `mlanet.properties.hops.matched`.
        known: images of an earlier run of the same band, which goes on from there.
        batched: compute all images at a time, where the calculator is one of ours.
    Raises:
        GeometryError: ends that do not match, do not come to rest, or relax to the same; a path through atoms.
        ConfigError: a model whose forces are no gradient.
    """

    def __init__(
        self,
        start: Atoms,
        end: Atoms,
        *,
        images: int = 7,
        relax: bool = True,
        rest: Rest = Rest(fmax=0.02),  # noqa: B008 - frozen
        names: tuple[str, str] = ("start", "end"),
        as_ordered: bool = False,
        known: Sequence[Atoms] = (),
        batched: bool = True,
    ) -> None:
        if images < 3:
            raise ValueError(f"a path needs at least 3 images, ends included, got {images}")
        require_gradient(start, "a barrier")
        self.steps = 0
        free = len(start) > 1 and not start.pbc.any() and not start.constraints
        if known:
            self.images = [image.copy() for image in known]
        else:
            ends = matched(start, end, names, as_ordered)
            ends[1].calc = start.calc
            if relax:
                first = at_rest(ends[0], "fixed", rest, names[0], held=True)
                last = at_rest(ends[1], "fixed", rest, names[1], held=True)
                if free:
                    minimize_rotation_and_translation(first, last)
                if np.linalg.norm(last.positions - first.positions, axis=1).max() < 100 * SAME_PLACE:
                    raise GeometryError(f"{names[1]} and {names[0]} relax to the same structure: there is no path")
                ends = first, last
            self.images = _between(*ends, images)
        for one in self.images[1:-1]:
            one.calc = start.calc
        for one, name in zip((self.images[0], self.images[-1]), names, strict=True):
            one.calc = start.calc
            if not free:  # a molecule's ends are turned with its path
                _freeze(one, name)
        self._neb = _Remembering(
            self.images, k=SPRING, method=METHOD, allow_shared_calculator=True, remove_rotation_and_translation=free
        )
        if batched and not free:  # the images of a molecule are turned before they are computed
            self._neb.batched_potential = batched_potential_of(start.calc)

    def run(self, fmax: float = 0.03, steps: int = 300, method: str = "fire") -> Iterator[Step]:
        """Go down, first without, then with a climbing image; a `Step` at a time, with the energy of the highest image.

        Args:
            fmax: eV/Å, of the forces across the path.
            steps: at most.
            method: "fire" or "mdmin".
        Raises:
            GeometryError: images in which atoms run into each other.
        """
        before = 0
        for climb, goal in ((False, max(LOOSE, fmax)), (True, fmax)):
            self._neb.climb = climb
            optimizer = OPTIMIZERS[method](self._neb, logfile=None)
            done = False
            try:
                for done in optimizer.irun(fmax=goal, steps=steps - before):
                    number = before + int(optimizer.get_number_of_steps())
                    if number > self.steps or not number:
                        self.steps = number
                        height = float(self._neb.energies.max() - self._neb.energies[0])
                        yield Step(number, height, self._force(), bool(done and climb))
            except GeometryError as error:
                raise named(error, f"step {self.steps} of the path") from None
            before = self.steps
            if not done:
                break

    def result(self, fmax: float = 0.03) -> Barrier:
        """What is there now."""
        self._neb.climb = True
        self._neb.get_forces()
        forces = np.array([self.images[0].get_forces(), *self._neb.real_forces[1:-1], self.images[-1].get_forces()])
        energies = np.array(self._neb.energies)
        images = [image.copy() for image in self.images]
        for one, energy, force in zip(images, energies, forces, strict=True):
            one.calc = SinglePointCalculator(one, energy=float(energy), forces=force)
        fit = fit_raw(energies, forces, np.array([image.positions for image in images]))
        force = self._force()
        return Barrier(
            images=tuple(images),
            steps=self.steps,
            force=force,
            converged=force < fmax,
            path=np.array(fit.path),
            energies=energies - energies[0],
            curve_path=fit.fit_path,
            curve=fit.fit_energies,
        )

    def _force(self) -> float:
        """eV/Å, the largest on any atom of any image, along the springs too."""
        return float(np.linalg.norm(self._neb.get_forces(), axis=1).max())


def barrier(
    start: Atoms, end: Atoms, *, images: int = 7, fmax: float = 0.03, steps: int = 300, relax: bool = True
) -> Barrier:
    """The barrier between two structures, by a climbing-image nudged elastic band.

    G. Henkelman, B. P. Uberuaga and H. Jónsson, J. Chem. Phys. 113, 9901 (2000), with the tangents of 113, 9978, as in
    ASE. The first guess keeps the distances of pairs (S. Smidstrup et al., J. Chem. Phys. 140, 214106).

    Args:
        start, end: the same atoms in the same cell, the first with a calculator (see `vacancy_hop` and `hop_into`).
        images: how many, ends included.
        fmax: eV/Å, of the forces across the path.
        steps: at most; `converged` says whether they sufficed.
        relax: relax the ends first, in their cell.
    Raises:
        GeometryError, ConfigError: as `Band`.
    """
    band = Band(start, end, images=images, relax=relax, rest=Rest(min(fmax, 0.02)))
    for _ in band.run(fmax, steps):
        pass
    return band.result(fmax)


def _freeze(atoms: Atoms, name: str) -> None:
    """Keep energy and forces, so that an end is computed once."""
    try:
        atoms.calc = SinglePointCalculator(atoms, **true_results(atoms))
    except GeometryError as error:
        raise named(error, name) from None


def _between(start: Atoms, end: Atoms, count: int) -> list[Atoms]:
    """The first guess: a straight line, mended where pairs come too close; no path through atoms.

    Raises:
        GeometryError: a path on which atoms collide, with image and atoms.
    """
    images = [start, *(start.copy() for _ in range(count - 2)), end]
    guess = NEB(images, method=METHOD, allow_shared_calculator=True)
    guess.interpolate("linear", apply_constraint=False)
    touching = [closest(image, 0.1) for image in images[1:-1]]
    if not any(touching) and len(start) <= MOST_PAIRED:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            guess.interpolate("idpp", mic=bool(start.pbc.any()), apply_constraint=False)
    for k, one in enumerate(images[1:-1], start=1):
        if not np.isfinite(one.positions).all():
            raise GeometryError(f"image {k} of the path: its atoms have no place; give a path with an image between")
        if near := closest(one):
            raise GeometryError(
                f"image {k} of the path: {near}: atoms would run through each other. Compute it in two parts by a "
                "structure between, or check the order of the atoms"
            )
    return images
