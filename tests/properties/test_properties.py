"""Equations of state, elastic constants and phonons: against each other, against the forms that are known, refusals."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111
from ase.calculators.emt import EMT
from ase.eos import EquationOfState as Fit
from ase.eos import birchmurnaghan
from ase.spacegroup import crystal
from ase.units import fs, kB

import mlanet
from mlanet.calculator import MLANetCalculator
from mlanet.errors import ConfigError, GeometryError
from mlanet.models import LEIGNNConfig
from mlanet.potential import Potential
from mlanet.properties import elasticity, equation_of_state, phonons
from mlanet.properties.elastic import _require_resistance, matrix
from mlanet.properties.eos import fitted
from mlanet.properties.phonon import _shown
from mlanet.properties.rest import Rest, all_at_rest
from mlanet.statistics import Statistics
from mlanet.units import EV_PER_CUBIC_ANGSTROM_IN_GPA


def copper(**options: object) -> Atoms:
    atoms = bulk("Cu", "fcc", 3.6, **options)
    atoms.calc = EMT()
    return atoms


def test_the_fit_finds_the_equation_that_the_points_are_of() -> None:
    """All four parameters, from seven points to one side of the middle."""
    volumes = np.linspace(19, 25, 7)
    energies = birchmurnaghan(volumes, -7.0, 80 / EV_PER_CUBIC_ANGSTROM_IN_GPA, 4.5, 21.3)
    found = fitted(volumes, energies, 2)
    assert found.volume == pytest.approx(21.3, rel=1e-10) and found.energy == pytest.approx(-7.0, rel=1e-12)
    assert found.bulk_modulus == pytest.approx(80, rel=1e-8) and found.derivative == pytest.approx(4.5, rel=1e-7)
    assert found.misfit < 1e-8 and np.allclose(found.at(volumes), energies, atol=1e-7)
    energies += 1e-3 * np.random.default_rng(0).normal(size=7)
    found, other = fitted(volumes, energies, 2), Fit(volumes, energies, eos="birchmurnaghan")
    volume, energy, stiffness = other.fit(warn=False)
    assert found.volume == pytest.approx(volume, abs=1e-5) and found.energy == pytest.approx(energy, abs=1e-7)
    assert found.bulk_modulus == pytest.approx(stiffness * EV_PER_CUBIC_ANGSTROM_IN_GPA, rel=1e-5)
    assert found.derivative == pytest.approx(other.eos_parameters[2], abs=1e-3)
    assert np.allclose(found.at(volumes), birchmurnaghan(volumes, *other.eos_parameters), atol=1e-7)


def test_bulk_moduli_of_volumes_and_of_strains_agree() -> None:
    """B₀ = (C₁₁ + 2 C₁₂)/3 of a cubic crystal; the start does not matter."""
    equation, tensor = equation_of_state(copper(), points=7), elasticity(copper())
    c = tensor.tensor
    assert equation.bulk_modulus == pytest.approx((c[0, 0] + 2 * c[0, 1]) / 3, rel=0.01)
    assert tensor.bulk_modulus == pytest.approx((c[0, 0] + 2 * c[0, 1]) / 3, rel=1e-6)
    assert tensor.stable and 0 < tensor.poisson_ratio < 0.5
    stretched = copper()
    stretched.set_cell(stretched.cell * 1.03, scale_atoms=True)
    assert equation_of_state(stretched, points=7).volume == pytest.approx(equation.volume, rel=1e-4)


def test_the_tensor_has_the_symmetry_of_the_crystal_and_turns_with_it() -> None:
    """C of a turned crystal differs; moduli of a polycrystal, and eigenvalues, do not."""
    straight, turned = copper(), copper()
    turned.rotate(30, (1, 2, 3), rotate_cell=True)
    first, second = elasticity(straight), elasticity(turned)
    c = first.tensor
    assert np.allclose([c[1, 1], c[2, 2]], c[0, 0]) and np.allclose(c, c.T)
    assert np.allclose(c[:3, 3:], 0, atol=1e-3)
    assert np.abs(first.tensor - second.tensor).max() > 5
    for name in ("bulk_modulus", "shear_modulus", "youngs_modulus", "anisotropy"):
        assert getattr(second, name) == pytest.approx(getattr(first, name), rel=0.01), name


def test_shears_are_engineering_strains() -> None:
    """Half of each beside the diagonal."""
    assert np.allclose(matrix(np.array([0, 0.2, 0, 0.02, 0, 0.04])), [[0, 0.02, 0], [0.02, 0.2, 0.01], [0, 0.01, 0]])


def test_phonons_of_a_stable_crystal() -> None:
    """Three acoustic branches from 0, Dulong and Petit at 1000 K, and the frequency of a frozen mode."""
    found = phonons(copper(), supercell=(2, 2, 2))
    assert found.remarks == []
    assert found.stable and found.lowest > -1e-3 and found.imaginary == 0
    assert found.heat_capacity[-1] / kB == pytest.approx(3, abs=0.03)
    assert found.heat_capacity[0] == pytest.approx(0, abs=1e-12)
    # At X, planes along [001] move against each other: the conventional cell holds that mode whole.
    atoms, step = bulk("Cu", "fcc", found.phonopy.unitcell.cell[0, 1] * 2, cubic=True), 0.01
    atoms.calc = EMT()
    atoms.positions[np.isclose(atoms.positions[:, 2], 0), 2] += step
    squared = -2 * atoms.get_forces()[0, 2] / step / atoms.get_masses()[0]  # eV/(Å² u)
    frequency = np.sqrt(squared) * fs * 1e3 / (2 * np.pi)
    found.phonopy.run_qpoints([[0.5, 0.5, 0]])
    assert found.phonopy.qpoints.frequencies.max() == pytest.approx(frequency, rel=0.01)


def test_an_unstable_crystal_is_flagged() -> None:
    """Simple cubic copper."""
    atoms = bulk("Cu", "sc", 2.4)
    atoms.calc = EMT()
    found = phonons(atoms, supercell=(3, 3, 3), relax=False)
    (remark,) = found.remarks
    assert f"{found.lowest:.2g} THz" in remark and "of the modes are imaginary: moved along such a mode" in remark
    near = dataclasses.replace(found, lowest=-0.04, lowest_at=(0.0, 0.05, 0.0), imaginary=0.0)
    assert "close to Γ" in near.remarks[0] and "--size" in near.remarks[0]
    assert not found.stable and found.lowest < -0.5 and 0 < found.imaginary < 1


def test_a_soft_mode_is_told_with_the_supercell_that_holds_it() -> None:
    """There it is not interpolated: the frequency is that of the larger supercell with the same wave vector."""
    atoms = bulk("Cu", "sc", 2.4)
    atoms.calc = EMT()
    found = phonons(atoms, supercell=(3, 3, 3), relax=False)
    at = dataclasses.replace(found, lowest_at=(0.5, 0.25, 0.0))
    assert not at.held and at.numbers["lowest_interpolated"]
    assert at.holding is not None and at.holding.repeats == (2, 4, 1)
    assert at.holding.wave_vector == pytest.approx(at.lowest_at)
    assert "--supercell 2,4,1 (8 atoms) holds q = (0.50, 0.25, 0.00)" in at.remarks[0]
    exact = [phonons(atoms, supercell=cell, relax=False).phonopy for cell in ((2, 4, 1), (4, 4, 2))]
    for one in (found.phonopy, *exact):
        one.run_qpoints([at.lowest_at])
    interpolated, one, other = (each.qpoints.frequencies for each in (found.phonopy, *exact))
    assert np.allclose(one, other, atol=3e-3) and np.abs(one - interpolated).max() > 1e-2  # THz
    held = dataclasses.replace(found, lowest_at=(1 / 3, 0.0, 2 / 3))
    assert held.held and "This supercell holds that wave vector" in held.remarks[0]
    beyond = dataclasses.replace(found, lowest_at=(1 / 19, 1 / 17, 1 / 13))
    assert beyond.holding is None and "a larger --size" in beyond.remarks[0]


def test_wave_vectors_of_a_primitive_cell_in_one_of_three() -> None:
    """R-3m in its hexagonal cell: q is given in the vectors of a third of it, and the supercell in its own."""
    cell = crystal("Cu", [(0, 0, 0)], spacegroup=166, cellpar=[2.6, 2.6, 6.6, 90, 90, 120])
    cell.calc = EMT()
    found = phonons(cell, supercell=(2, 2, 1), relax=False)
    assert len(found.phonopy.primitive) == 1
    at = dataclasses.replace(found, lowest_at=(0.1, 0.1, 0.05), imaginary=0.5, lowest=-1.0)
    assert at.holding is not None and at.holding.wave_vector == pytest.approx((0.1, 0.1, 0.05))
    assert at.holding.repeats == (1, 20, 4)
    shifts = at.holding.wave_vector @ np.linalg.inv(found.phonopy.primitive_matrix) * at.holding.repeats
    assert np.allclose(shifts, np.round(shifts))


def direct() -> MLANetCalculator:
    """Forces that are no gradient."""
    config = LEIGNNConfig(channels=8, layers=1, cutoff=4.0, forces="direct", repulsion="none")
    return MLANetCalculator(Potential.build(config, Statistics.unit((29,))))


@pytest.mark.parametrize("ask", [equation_of_state, elasticity, phonons])
def test_what_has_no_answer_is_refused(ask) -> None:  # type: ignore[no-untyped-def]
    """A slab, a molecule, direct forces, and a crystal that does not come to rest."""
    slab = fcc111("Cu", (1, 1, 3), vacuum=6.0)
    slab.calc = EMT()
    with pytest.raises(GeometryError, match=r"slab\.cif: not periodic along c"):
        ask(slab, where="slab.cif")
    molecule = Atoms("Cu2", [[0, 0, 0], [2.5, 0, 0]], calculator=EMT())
    with pytest.raises(GeometryError, match="not periodic along a, b, c"):
        ask(molecule)
    crystal = copper()
    crystal.calc = direct()
    with pytest.raises(ConfigError, match="direct"):
        ask(crystal)
    rattled = copper(cubic=True)
    rattled.rattle(0.2, seed=1)
    with pytest.raises(GeometryError, match="does not come to rest"):
        ask(rattled, rest=Rest(1e-6, 2))


BOXED = {
    "a pair": Atoms("Cu2", [[0, 0, 0], [0, 0, 2.2]], cell=[14, 14, 14], pbc=True),
    "a lone atom": Atoms("Cu", cell=[10, 10, 10], pbc=True),
    "a pair across the boundary of a skewed box": Atoms(
        "Cu2", [[0, 0, 0.3], [0, 0, -1.9]], cell=[[14, 0, 0], [5, 14, 0], [4, 3, 14]], pbc=True
    ),
}


@pytest.mark.parametrize("what", BOXED)
@pytest.mark.parametrize("ask", [equation_of_state, elasticity, phonons])
@pytest.mark.parametrize("relax", [True, False])
def test_what_is_alone_in_a_box_is_no_crystal(ask, what: str, relax: bool) -> None:  # type: ignore[no-untyped-def]
    """Said before anything is computed, with the least of its empty space."""
    atoms = BOXED[what].copy()
    atoms.calc = EMT()
    atoms.calc.calculate = None  # not asked
    with pytest.raises(GeometryError, match=r"box\.cif: no crystal, but a molecule .*: 1\d\.\d Å or more along each"):
        ask(atoms, relax=relax, where="box.cif")


def test_beyond_a_short_cutoff_nothing_is_a_crystal() -> None:
    """5 Å of empty space all round are enough for a model that sees 4 Å."""
    atoms = Atoms("Cu", cell=[5, 5, 5], pbc=True)
    config = LEIGNNConfig(channels=8, layers=1, cutoff=4.0, repulsion="none")
    atoms.calc = MLANetCalculator(Potential.build(config, Statistics.unit((29,))))
    with pytest.raises(GeometryError, match="no crystal.*5.0 Å"):
        phonons(atoms)


def test_an_atom_that_moves_with_its_images_has_no_phonons() -> None:
    """A supercell of one atom: whatever is displaced, no force answers."""
    with pytest.raises(GeometryError, match=r"cu\.cif: nothing pulls back .* 1×1×1 .*larger --size"):
        phonons(copper(), supercell=(1, 1, 1), relax=False, where="cu.cif")


@pytest.mark.parametrize("ask", [equation_of_state, elasticity])
def test_a_slab_in_a_box_has_no_volume_to_change(ask) -> None:  # type: ignore[no-untyped-def]
    """Its moduli would be those of the box."""
    slab = fcc111("Cu", (1, 1, 3), vacuum=6.0)
    slab.pbc, slab.calc = True, EMT()
    with pytest.raises(GeometryError, match=r"slab\.cif: 12\.0 Å along c are empty"):
        ask(slab, where="slab.cif")


def test_what_resists_no_strain_has_no_elastic_constants() -> None:
    """No constants at all, or none against one strain: a tensor without an inverse gives no moduli."""
    nothing, sheets = np.zeros((6, 6)), np.diag([90.0, 90.0, 0.0, 0.0, 0.0, 30.0])
    with pytest.raises(GeometryError, match="pair.cif: no strain meets more than .* GPa: nothing resists it"):
        _require_resistance(nothing, "pair.cif")
    with pytest.raises(GeometryError, match=r"sheets.cif: nothing resists the strain \(0.00, 0.00, 1.00, 0.00"):
        _require_resistance(sheets, "sheets.cif")
    _require_resistance(sheets + np.eye(6), "soft.cif")


def test_energies_without_a_minimum_are_refused() -> None:
    """Only falling, and a crystal that is far from rest."""
    with pytest.raises(GeometryError, match="lowest at the largest volume"):
        fitted(np.linspace(10, 12, 7), -np.linspace(1, 2, 7), 1, "a.cif")
    flat = np.array([3, 1, 0, 2, 1, 3, 2]) * 1e-7  # a molecule in a box: rounding, whose minimum means nothing
    with pytest.raises(GeometryError, match="nothing resists a change of the volume"):
        fitted(np.linspace(500, 560, 7), flat - 13.2, 3, "water.cif")
    squeezed = copper()
    squeezed.set_cell(squeezed.cell * 0.9, scale_atoms=True)
    with pytest.raises(GeometryError, match="no minimum to fit"):
        equation_of_state(squeezed, relax=False)


def test_deformed_copies_are_computed_together_and_say_the_same(monkeypatch) -> None:
    """Volumes and strains of a crystal are a batch: the numbers of one by one, for a fraction of the calls."""
    from mlanet.properties import rest as rests

    atoms = bulk("Si", a=5.5)
    atoms.rattle(0.01, seed=0)
    atoms.calc = MLANetCalculator(mlanet.load(), dtype="float64")
    calls = []
    atoms.calc.potential.register_forward_pre_hook(lambda module, args: calls.append(args[0].n_structures))

    def measured() -> tuple[list[float], int, int]:
        calls.clear()
        equation = equation_of_state(atoms, points=5)
        first = len(calls)
        tensor = elasticity(atoms, relax=False)
        numbers = [equation.volume, equation.energy, equation.bulk_modulus, *tensor.tensor.ravel()]
        return numbers, len(calls) - first, max(calls)

    batched_potential, at_once, most = measured()
    monkeypatch.setattr(rests, "batched_potential_of", lambda calculator: None)
    alone, one_by_one, single = measured()
    assert np.allclose(batched_potential, alone, rtol=1e-7, atol=1e-6) and (at_once, most) == (1, 12)
    assert (one_by_one, single) == (12, 1)


def test_of_copies_that_do_not_come_to_rest_the_first_is_named() -> None:
    """The same error as one by one, with the strain."""
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.1, seed=0)
    atoms.calc = MLANetCalculator(dtype="float64")
    strained = [atoms.copy(), atoms.copy()]
    for one in strained:
        one.calc = atoms.calc
    with pytest.raises(GeometryError, match="second: does not come to rest"):
        strained[0].positions[:] = bulk("Si", cubic=True).positions
        all_at_rest(strained, "fixed", Rest(fmax=0.02, steps=1), ["first", "second"])


def test_no_wave_vector_is_shown_with_a_negative_zero() -> None:
    """Products of matrices leave some."""
    assert _shown((-0.0, -1e-9, -0.5)) == "(0.00, 0.00, -0.50)"
