"""Barriers: against a surface whose saddles are known, both ways alike where the ends are, and ends that do not fit."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms

from mlanet.calculator import MLANetCalculator
from mlanet.errors import ConfigError, GeometryError
from mlanet.models import LEIGNNConfig
from mlanet.potential import Potential
from mlanet.properties import barrier, hop_into, vacancy_hop
from mlanet.properties.band import Band
from mlanet.properties.hops import matched
from mlanet.statistics import Statistics


class Surface(Calculator):
    """Of K. Müller and L. D. Brown (1979) in the x and y of one atom, in units of 10 meV; a spring holds z."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 - as in ASE
    terms = np.array(
        [
            [-200, -1, 0, -10, 1, 0],
            [-100, -1, 0, -10, 0, 0.5],
            [-170, -6.5, 11, -6.5, -0.5, 1.5],
            [15, 0.7, 0.6, 0.7, -1, 1],
        ]
    )

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:  # type: ignore[no-untyped-def]
        super().calculate(atoms, properties, system_changes)
        x, y, z = self.atoms.positions[0]
        height, a, b, c, x0, y0 = self.terms.T
        dx, dy = x - x0, y - y0
        parts = height * np.exp(a * dx**2 + b * dx * dy + c * dy**2)
        force = -np.array([(parts * (2 * a * dx + b * dy)).sum(), (parts * (b * dx + 2 * c * dy)).sum(), 100 * z])
        self.results = {"energy": 0.01 * (parts.sum() + 50 * z**2), "forces": 0.01 * force[None]}


def at(x: float, y: float) -> Atoms:
    atoms = Atoms("H", [[x, y, 0.0]])
    atoms.calc = Surface()
    return atoms


def test_saddles_of_a_surface_that_is_known() -> None:
    """Minima at −146.70, −108.17 and −80.77, saddles at −40.66 and −72.25; a minimum between is told."""
    deep, middle, other = at(-0.558, 1.442), at(-0.05, 0.467), at(0.623, 0.028)
    found = barrier(deep, middle, images=9, fmax=0.005, steps=1000)
    assert found.converged and not found.remarks
    assert found.forward == pytest.approx(1.4670 - 0.4066, abs=2e-4)
    assert found.back == pytest.approx(0.8077 - 0.4066, abs=2e-4)
    assert found.curve.max() == pytest.approx(found.forward, abs=0.01)
    whole = barrier(deep, other, images=15, fmax=0.01, steps=1000)
    assert whole.forward == pytest.approx(found.forward, abs=1e-3)
    assert whole.minima and "two paths" in whole.remarks[0]
    last = barrier(middle, other, fmax=0.005, steps=1000)
    assert last.forward == pytest.approx(0.8077 - 0.7225, abs=2e-4)


def aluminium(copies: int = 2) -> Atoms:
    atoms = bulk("Al", "fcc", 4.0).repeat(copies)
    atoms.calc = EMT()
    return atoms


def test_a_vacancy_costs_the_same_both_ways_whichever_atom_hops() -> None:
    """All neighbours of a site are alike, and an end that lies in another image of the cell is the same end."""
    crystal = aluminium()
    start, end = vacancy_hop(crystal, 0)
    found = barrier(start, end, images=5)
    assert found.converged and len(start) == 7
    assert found.forward == pytest.approx(found.back, abs=1e-6) and found.saddle == 2
    assert 0.01 < found.forward < 1
    assert np.allclose(found.energies, found.energies[::-1], atol=2e-3)
    third, fourth = vacancy_hop(crystal, 3, to=2)
    fourth.positions[4] += fourth.cell[1]
    assert barrier(third, fourth, images=5).forward == pytest.approx(found.forward, abs=2e-3)


def test_hops_are_made_as_they_are_named() -> None:
    """The hopping atom goes the short way; a place that is taken, or an atom that is not there, is refused."""
    crystal = aluminium(3)
    start, end = vacancy_hop(crystal, 0, to=1)
    step = np.linalg.norm(end.positions - start.positions, axis=1)
    assert np.flatnonzero(step).tolist() == [0] and step.max() == pytest.approx(4 / np.sqrt(2))
    holed = crystal.copy()
    del holed[0]
    _, other = hop_into(holed, 0, [0.0, 0.0, 1.0])
    assert np.allclose(other.get_distances(0, [1, 2], mic=True), end.get_distances(0, [1, 2], mic=True))
    with pytest.raises(GeometryError, match=r"al\.cif: the place is taken: there atoms 0 \(Al\) and 1 \(Al\)"):
        hop_into(crystal, 1, [0, 0, 0], "al.cif")
    doubled = crystal.copy()
    doubled.positions[5] = doubled.positions[4] + [0.01, 0, 0]
    for hop in (lambda: vacancy_hop(doubled, 4, where="al.cif"), lambda: hop_into(doubled, 0, [0, 0, 0.5], "al.cif")):
        with pytest.raises(GeometryError, match=r"al\.cif: atoms 4 \(Al\) and 5 \(Al\) are 0\.01 Å apart, closer"):
            hop()
    with pytest.raises(GeometryError, match="has no atom 27; its 27 atoms are counted from 0"):
        vacancy_hop(crystal, 27)
    with pytest.raises(GeometryError, match="only one of its element"):
        vacancy_hop(bulk("NaCl", "rocksalt", 5.6), 0)
    with pytest.raises(GeometryError, match="into its own place"):
        vacancy_hop(crystal, 1, 1)


def test_ends_that_do_not_match_are_refused_with_the_atom() -> None:
    """Other atoms, another order of elements or of equal ones, another cell, other periods, no difference."""
    start = bulk("NaCl", "rocksalt", 5.6, cubic=True)
    end = start.copy()
    end.positions[0] += 0.3

    def refused(changed: Atoms, words: str) -> None:
        with pytest.raises(GeometryError, match=words):
            matched(start, changed, ("a.cif", "b.cif"))

    assert np.allclose(matched(start, end, ("a", "b"))[1].positions - start.positions, end.positions - start.positions)
    refused(end[:-1], r"a\.cif is of Cl4Na4, b\.cif of Cl3Na4|a\.cif is of Na4Cl4, b\.cif of Na4Cl3")
    refused(end[[1, 0, *range(2, 8)]], r"b\.cif: atom 0 is Cl, in a\.cif it is Na")
    swapped = end[[2, 1, 0, *range(3, 8)]]
    refused(swapped, r"b\.cif: atom \d \(Na\) is .* Å from its place in a\.cif, where atom \d of b\.cif would fit")
    assert len(matched(start, swapped, ("a", "b"), as_ordered=True)[1]) == 8
    wider = end.copy()
    wider.set_cell(end.cell * 1.01, scale_atoms=True)
    refused(wider, r"b\.cif: its lattice vector a is \(5\.656, 0, 0\) Å")
    slab = end.copy()
    slab.pbc = [True, True, False]
    refused(slab, "periodic along")
    refused(start.copy(), "is the same structure")


def test_a_path_through_atoms_is_refused() -> None:
    """Two atoms that exchange places head on; ends that relax to the same; a model whose forces are no gradient."""
    start = Atoms("Cu2", [[0, 0, 0], [2.5, 0, 0]], cell=[9, 9, 9], pbc=True, calculator=EMT())
    end = start[[1, 0]]
    end.calc = EMT()
    with pytest.raises(GeometryError, match=r"image 1 of the path: atoms 0 \(Cu\) and 1 \(Cu\) are 1\.08 Å apart"):
        Band(start, end, images=5, as_ordered=True)
    start.pbc = False
    longer = start.copy()
    longer.positions[1, 0] += 0.2
    with pytest.raises(GeometryError, match="relax to the same structure"):
        barrier(start, longer)
    config = LEIGNNConfig(channels=8, layers=1, cutoff=4.0, forces="direct", repulsion="none")
    for one in (start, longer):
        one.calc = MLANetCalculator(Potential.build(config, Statistics.unit((29,))))
    with pytest.raises(ConfigError, match="a barrier needs forces .* direct"):
        barrier(start, longer)


def test_a_molecule_turns_inside_out_and_what_is_held_stays() -> None:
    """The umbrella of ammonia, flat at rest in EMT, has no barrier; a held atom is where it was on every image."""
    start = molecule("NH3")
    start.calc = EMT()
    end = start.copy()
    end.positions[:, 2] *= -1
    end.calc = start.calc
    found = barrier(start, end, images=5, relax=False, fmax=0.1)
    assert found.saddle in (0, 4) and "no barrier" in found.remarks[0]
    assert found.energies[1] == pytest.approx(found.energies[3], abs=1e-3) and found.energies[2] < -0.1
    ends = vacancy_hop(aluminium(), 0)
    for one in ends:
        one.set_constraint(FixAtoms([5]))
    held = barrier(*ends, images=3, fmax=0.2)
    assert all(np.array_equal(one.positions[5], ends[0].positions[5]) for one in held.images)
    assert np.ptp([one.positions[4] for one in held.images], axis=0).max() > 1e-3


def test_a_path_that_is_not_found_in_time_says_so() -> None:
    """Every number that depends on it comes with the word."""
    found = barrier(*vacancy_hop(aluminium(), 0), images=3, steps=1)
    assert not found.converged and "not converged after 1 steps" in found.remarks[0]
    assert found.numbers["converged"] is False


def test_images_of_one_batch_take_the_steps_that_they_would_take_alone() -> None:
    """With a model of this package; the batch is one call of it for all images."""
    crystal = bulk("Mo", cubic=True) * 2
    crystal.calc = MLANetCalculator("elemental", dtype="float64")
    start, end = vacancy_hop(crystal, 0)
    start.calc = crystal.calc
    courses = []
    for batched in (True, False):
        band = Band(start, end, images=5, relax=False, batched=batched)
        courses.append([(step.energy, step.force) for step in band.run(fmax=1e-4, steps=3)])
        assert (band._neb.batched_potential is not None) == batched
    np.testing.assert_allclose(*courses, rtol=1e-7)
    assert len(courses[0]) == 4
