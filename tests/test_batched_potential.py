"""Many structures at a time: what each is told, and what its neighbour list holds, is what it would be alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from hypothesis import given
from hypothesis import strategies as st
from systems import SPECIES, SYSTEMS, ethanol, slab, triclinic, wire

from mlanet.batched_potential import BatchedPotential
from mlanet.calculator import MLANetCalculator
from mlanet.config import parse
from mlanet.data.atoms import to_graph
from mlanet.errors import GeometryError, NotFiniteError, UnsupportedElementError
from mlanet.forecast import MemoryLimit
from mlanet.graph import AtomicGraph, batch_graphs, split_graph
from mlanet.models import ModelConfig
from mlanet.potential import Potential
from mlanet.statistics import Statistics
from mlanet.verlet import Neighbors

TINY = {"model": "mlanet", "irreps": "8x0e+8x1o", "layers": 1, "hidden": 8, "radial_hidden": [8], "cutoff": 4.0}


@pytest.fixture(scope="module")
def potential() -> Potential:
    torch.manual_seed(0)
    return Potential.build(parse(TINY, ModelConfig, "test"), Statistics.unit(SPECIES)).double().eval()


def same_graph(one: AtomicGraph, other: AtomicGraph) -> bool:
    names = ("center", "neighbor", "shift", "positions", "cell", "numbers", "pbc", "structure", "charge")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in names)


def test_each_is_told_what_the_calculator_says_of_it_alone(potential) -> None:
    """Molecules, crystals, sheets and wires in one batch, far from the cell or not; again after they have moved."""
    structures = [atoms.copy() for atoms in SYSTEMS.values()]
    structures[1].positions += 5 * structures[1].cell.array.sum(axis=0)
    batched_potential, calculator = BatchedPotential(potential, max_edges=500), MLANetCalculator(potential)
    with pytest.warns(UserWarning, match="without a neighbour"):
        for _ in range(3):
            assert batched_potential(structures) == [None] * len(structures)
            for atoms in structures:
                alone = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc, calculator=calculator)
                assert atoms.get_potential_energy() == pytest.approx(alone.get_potential_energy(), abs=1e-10)
                assert np.allclose(atoms.get_forces(), alone.get_forces(), atol=1e-10)
                assert set(atoms.calc.results) == set(calculator.results)
                if atoms.pbc.any():
                    assert np.allclose(atoms.get_stress(), alone.get_stress(), atol=1e-12)
                atoms.rattle(0.03, seed=len(atoms))


def test_one_at_fault_costs_no_other_anything(potential) -> None:
    """An element that is unknown, atoms that overlap from the start or later, NaN: each its own error, every time."""
    structures = [ethanol(), Atoms("Fe"), triclinic(), Atoms("OO", [[0, 0, 0], [0, 0, 0.01]]), slab(), wire()]
    structures += [Atoms("O", [[np.nan, 0, 0]])]
    batched_potential = BatchedPotential(potential)
    kinds = [type(one) for one in batched_potential(structures)]
    nothing = type(None)
    assert kinds == [nothing, UnsupportedElementError, nothing, GeometryError, nothing, nothing, GeometryError]
    structures[0].positions[1] = structures[0].positions[0] + 1e-3  # within the skin's reach: its list would serve
    found = batched_potential([structures[0], structures[2]])
    assert isinstance(found[0], GeometryError) and "overlap" in str(found[0]) and found[1] is None


def test_what_a_model_says_of_one_is_not_finite(potential) -> None:
    """0 · NaN is NaN in sums of a batch; the others are answered nevertheless."""

    class Faulty(Potential):
        def answer(self, graph):
            found = super().answer(graph)
            return found.map(lambda one: one * torch.nan) if bool((graph.numbers == 1).any()) else found

    faulty = Faulty(potential.model, potential.statistics)
    found = BatchedPotential(faulty)([triclinic(), slab(), ethanol()])
    assert isinstance(found[0], NotFiniteError) and isinstance(found[2], NotFiniteError) and found[1] is None


def test_of_another_geometry_it_asks_again(potential) -> None:
    """What a structure is told is of where it is, whoever has moved it; its copy is its own."""
    atoms, batched_potential = triclinic(), BatchedPotential(potential)
    batched_potential([atoms])
    before = atoms.get_forces()
    atoms.positions[0] += 0.2
    fresh = triclinic()
    fresh.positions[0] += 0.2
    fresh.calc = MLANetCalculator(potential)
    assert np.allclose(atoms.get_forces(), fresh.get_forces(), atol=1e-10) and not np.allclose(
        atoms.get_forces(), before
    )


@given(st.sampled_from([ethanol, triclinic, slab, wire]), st.integers(0, 10_000), st.floats(0.0, 0.06))
def test_a_list_serves_only_where_it_is_complete(make, seed: int, size: float) -> None:
    """Whatever atoms and cell do: if it says that it serves, its pairs within the cutoff are those of a new one."""
    cutoff, atoms = 3.0, make()
    neighbors = Neighbors(to_graph(atoms, cutoff + 0.5), atoms, cutoff)
    random = np.random.default_rng(seed)
    if atoms.pbc.any():
        strain = size * random.normal(size=(3, 3)) * np.outer(atoms.pbc, atoms.pbc)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    atoms.positions += size * random.normal(size=atoms.positions.shape)
    if neighbors.serves(atoms):
        assert same_graph(neighbors.now(atoms).within(cutoff), to_graph(atoms, cutoff))


def test_lists_serve_for_steps_of_a_relaxation_and_not_for_leaps(potential) -> None:
    atoms = triclinic()
    neighbors = Neighbors(to_graph(atoms, 4.5), atoms, 4.0)
    atoms.set_cell(atoms.cell.array * 0.95, scale_atoms=True)
    atoms.positions[0, 0] += 0.1
    assert neighbors.serves(atoms)
    for change in ({"positions": atoms.positions + 0.3 * np.eye(4, 3)}, {"cell": atoms.cell.array * 0.9}):
        moved = Atoms(atoms.numbers, change.get("positions", atoms.positions), cell=change.get("cell", atoms.cell))
        moved.pbc = True
        assert not neighbors.serves(moved)


def test_batches_split_into_what_was_joined() -> None:
    graphs = [to_graph(atoms, 3.5) for atoms in SYSTEMS.values()]
    for one, other in zip(split_graph(batch_graphs(graphs)), graphs, strict=True):
        assert same_graph(one, other) and one.n_structures == 1


def test_batches_keep_within_memory(potential) -> None:
    """The forecast is asked for every batch; a structure that fits in none is refused, the others are computed."""
    asked = []

    class Most:
        def fits(self, size, limit) -> bool:
            asked.append(size.atoms)
            return size.atoms <= limit

        def bytes(self, size) -> float:
            return 2.0**30

    limit = MemoryLimit(Most(), 20)  # type: ignore[arg-type]
    computed = []
    potential.register_forward_pre_hook(hook := lambda module, args: computed.append(args[0].n_atoms))
    crystals = [bulk("C", cubic=True) for _ in range(5)] + [bulk("C", cubic=True) * (2, 2, 1)]
    try:
        found = BatchedPotential(potential, fits=limit)(crystals)
    finally:
        potential._forward_pre_hooks.clear()
    assert hook is not None and computed == [16, 16, 8] and found[:5] == [None] * 5 and "max_memory" in str(found[5])


def test_statistics_are_told_apart_quickly() -> None:
    """Equal ones have equal hashes; tables are visited once, not at every step."""
    import dataclasses

    one = Statistics.unit((1, 8))
    other = dataclasses.replace(one, wall=((1.0, 1.0), (1.0, 1.0)))
    assert hash(one) == hash(Statistics.unit((1, 8))) and one != other and hash(one) != hash(other)
    assert "_hash" in vars(one)
