"""Results that are never stale, and a skin list that changes nothing but the time they take."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.md.verlet import VelocityVerlet
from calculating import assert_same, build, layer, numbers, silicon, thermalize

from mlanet.calculator import MLANetCalculator
from mlanet.errors import DataError
from mlanet.potential import Potential

SYSTEMS = {"bulk": silicon(), "layer": layer(), "molecule": molecule("CH3CH2OH")}


@pytest.fixture(scope="module")
def potential() -> Potential:
    """Random weights, float32."""
    return build()


def counted(calculator: MLANetCalculator, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The list grows by one with every evaluation of the model."""
    calls: list[int] = []
    forward = type(calculator.potential).forward

    def spy(self: Potential, graph: object) -> object:
        calls.append(1)
        return forward(self, graph)  # type: ignore[arg-type]

    monkeypatch.setattr(type(calculator.potential), "forward", spy)
    return calls


@pytest.mark.parametrize("skin", [0.0, 0.5])
def test_answers_are_neither_stale_nor_computed_twice(
    potential: Potential, skin: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any change of what the model sees brings a new calculation; nothing else does."""
    calculator = MLANetCalculator(potential, dtype="float64", skin=skin)
    calls = counted(calculator, monkeypatch)
    atoms = silicon()
    atoms.calc = calculator

    def computed() -> bool:
        before = len(calls)
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
        spent = len(calls) - before
        fresh = MLANetCalculator(potential, dtype="float64")
        expected = numbers(atoms, fresh)
        assert_same(results, {name: expected[name] for name in results}, 1e-11)
        assert spent <= 1
        return spent == 1

    assert computed() and not computed()
    atoms.info["note"] = "unrelated"
    atoms.set_velocities(np.ones((8, 3)))
    assert not computed()
    changes = (
        lambda: atoms.positions.__iadd__(1e-3 * np.eye(8, 3)),
        lambda: atoms.positions.__iadd__(0.7 * np.eye(8, 3)),
        lambda: atoms.set_cell(atoms.cell * 1.01),
        lambda: atoms.set_cell(atoms.cell * 1.01, scale_atoms=True),
        lambda: atoms.set_pbc([True, True, False]),
        lambda: atoms.numbers.__setitem__(0, 6),
        lambda: atoms.info.__setitem__("charge", 1.0),
        lambda: atoms.info.__setitem__("charge", 2.0),
        lambda: atoms.info.__setitem__("total_charge", -1.0),
        lambda: atoms.translate([20.0, 0.0, 0.0]),
        lambda: atoms.wrap(),
        lambda: atoms.__delitem__(7),
    )
    for change in changes:
        change()
        assert computed() and not computed()


def test_the_charge_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that reads the total charge answers differently when `info` changes, also through a skin list."""
    potential = build(charge="total")
    for skin in (0.0, 0.5):
        atoms = silicon()
        atoms.calc = MLANetCalculator(potential, dtype="float64", skin=skin)
        neutral = atoms.get_potential_energy()
        atoms.info["charge"] = 1.0
        charged = atoms.get_potential_energy()
        assert abs(charged - neutral) > 1e-6
        del atoms.info["charge"]
        assert atoms.get_potential_energy() == neutral
        atoms.info["charge"] = "plenty"
        with pytest.raises(DataError, match="charge"):
            atoms.get_potential_energy()


@pytest.mark.parametrize("name", ["bulk", "layer", "molecule"])
def test_a_skin_list_equals_a_fresh_list_along_dynamics(name: str) -> None:
    """Over 250 steps of hot dynamics, wrapped now and then, all results agree to 1e-11 with those of fresh lists."""
    potential, atoms = build(repulsion="zbl"), SYSTEMS[name].copy()  # random weights alone would not keep atoms apart
    skinned = MLANetCalculator(potential, dtype="float64", skin=0.6)
    fresh = MLANetCalculator(potential, dtype="float64")
    atoms.calc = skinned
    atoms.set_masses([28.0] * len(atoms))  # random weights make strong forces, light atoms would fly
    thermalize(atoms, 900)
    dynamics = VelocityVerlet(atoms, timestep=2.0 * units.fs)
    for step in range(250):
        dynamics.run(1)
        if step % 40 == 20:
            atoms.wrap()
            atoms.get_forces()
        if step % 5 == 0:
            assert_same(dict(skinned.results), numbers(atoms, fresh), 1e-11)
    assert 1 < skinned.neighbor_lists_built < 125, "the list must be used again, and rebuilt"


def test_the_list_is_rebuilt_only_when_it_must(potential: Potential) -> None:
    """Up to skin/2 the list is kept, and through a strain that takes no more of the skin; beyond it, or when pbc,
    elements or charge change, it is made anew."""
    atoms = silicon()
    calculator = MLANetCalculator(potential, dtype="float64", skin=0.4)
    atoms.calc = calculator
    built = []
    steps = (
        lambda: None,
        lambda: atoms.positions.__setitem__((0, 0), atoms.positions[0, 0] + 0.19),
        lambda: atoms.positions.__setitem__((0, 0), atoms.positions[0, 0] + 0.02),
        lambda: atoms.positions.__iadd__([0.15, 0.0, 0.0]),
        lambda: atoms.set_cell(atoms.cell * 1.001, scale_atoms=True),
        lambda: atoms.set_cell(atoms.cell * 0.9, scale_atoms=True),
        lambda: atoms.set_pbc(False),
        lambda: atoms.numbers.__setitem__(0, 6),
        lambda: atoms.info.__setitem__("charge", 1.0),
    )
    for step in steps:
        step()
        atoms.get_forces()
        built.append(calculator.neighbor_lists_built)
    assert built == [1, 1, 2, 2, 2, 3, 4, 5, 6]


def test_two_atoms_that_come_together_are_not_missed(potential: Potential) -> None:
    """The worst case for a skin, two atoms approaching each other from beyond cutoff + skin, is right at every step."""
    skin, cutoff = 0.6, potential.cutoff
    calculator = MLANetCalculator(potential, dtype="float64", skin=skin)
    fresh = MLANetCalculator(potential, dtype="float64")
    atoms = Atoms("O2", positions=[[0, 0, 0], [cutoff + skin + 0.01, 0, 0]], calculator=calculator)
    apart = atoms.get_potential_energy()
    for _ in range(70):
        atoms.positions[:, 0] += [0.02, -0.02]
        atoms.get_forces()
        assert_same(dict(calculator.results), numbers(atoms, fresh), 1e-11)
    assert atoms.get_distance(0, 1) < cutoff - 1.0 and abs(atoms.get_potential_energy() - apart) > 1e-6
    assert calculator.neighbor_lists_built < 10
