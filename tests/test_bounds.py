"""Extreme numbers, and what is not finite: refused before anything is searched or allocated, and named."""

from __future__ import annotations

import ctypes
import dataclasses
import itertools
import json
import signal
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from ase import Atoms
from ase.build import bulk
from fuzz_material import signed
from hypothesis import given
from hypothesis import strategies as st

from mlanet.checkpoint import load_model, save_model
from mlanet.config import parse
from mlanet.data.atoms import to_graph
from mlanet.data.bounds import expected_pairs, extent_of, plan_search
from mlanet.data.neighbors import heeding_signals, neighbor_list
from mlanet.data.read import Frame
from mlanet.errors import CheckpointError, ConfigError, DataError, GeometryError, NotFiniteError
from mlanet.graph import AtomicGraph, Prediction
from mlanet.inference import predict, require_finite
from mlanet.memory import Allowance, peak_bytes
from mlanet.models import ModelConfig
from mlanet.potential import Potential
from mlanet.statistics import Statistics
from mlanet.workflows.predict import predict_frames

TINY = {"model": "mlanet", "irreps": "4x0e+4x1o", "layers": 1, "hidden": 8, "heads": 2, "cutoff": 4.0}


def tiny(**changes: object) -> Potential:
    config = parse(TINY | changes, ModelConfig, "test")
    return Potential.build(config, Statistics((13, 29), (-1.0, -2.0), (1.0, 1.0), 12.0)).eval()


def by_hand(positions, cell, pbc, cutoff) -> set[tuple[int, ...]]:
    """Every pair within the cutoff, by trying all images."""
    found = set()
    home = np.where(pbc, np.floor(positions @ np.linalg.pinv(np.where(np.array(pbc)[:, None], cell, 0))), 0)
    near = [range(-3, 4) if periodic else (0,) for periodic in pbc]
    for i, j in itertools.product(range(len(positions)), repeat=2):
        for image in itertools.product(*near):
            shift = np.array(image) - home[j] + home[i]
            vector = positions[j] + shift @ cell - positions[i]
            if (i != j or any(shift)) and np.linalg.norm(vector) < cutoff:
                found.add((i, j, *shift.astype(int).tolist()))
    return found


@pytest.mark.parametrize("lengths", [*itertools.permutations([1e6, 4.0, 5.0]), (4e3, 4e3, 4.0), (4.0, 1e7, 9e6)])
@pytest.mark.parametrize("pbc", [(True, True, True), (True, True, False), (False, True, False)])
def test_long_and_flat_boxes_are_searched(lengths, pbc) -> None:
    """Where the search library would divide by zero, the list is as complete as elsewhere."""
    rng = np.random.default_rng(3)
    positions = rng.random((5, 3)) * np.minimum(lengths, 6.0) + rng.integers(-2, 3, (5, 3)) * np.where(pbc, lengths, 0)
    cell = np.diag(lengths)
    found = neighbor_list(positions, cell, pbc, 4.5)
    pairs = np.concatenate([found.center[:, None], found.neighbor[:, None], found.shift], axis=1).tolist()
    assert set(map(tuple, pairs)) == by_hand(positions, cell, pbc, 4.5)
    assert len(pairs) == len(set(map(tuple, pairs)))
    assert pairs == sorted(pairs)


@pytest.mark.parametrize("axis", range(3))
def test_wide_and_flat_wires_are_searched(axis: int) -> None:
    """One period, and atoms far apart across it, in one direction only."""
    positions = np.array([[0, 0, 0], [0, 0, 2.0], [0, 1e5, 0], [1e5, 1e5, 2.0]])
    cell, pbc = np.zeros((3, 3)), np.arange(3) == axis
    cell[axis, axis] = 1e6
    found = neighbor_list(positions, cell, pbc, 4.0)
    assert found.center.tolist() == [0, 1] and not found.shift.any()


def test_distant_atoms_without_period() -> None:
    """Atoms 1e7 Å apart, in one direction or two, are no neighbours, and their own are found."""
    apart = np.array([[0, 0, 0], [0, 0, 2], [1e7, 0, 0], [1e7, 1e7, 0], [1e7, 1e7, 2]])
    found = neighbor_list(apart, np.zeros((3, 3)), [False] * 3, 5.0)
    assert found.center.tolist() == [0, 1, 3, 4] and found.neighbor.tolist() == [1, 0, 4, 3]


def test_skewed_cells_with_images_too_near_are_refused() -> None:
    """Also where every vector is long: what counts is the shortest of the lattice."""
    atoms = Atoms("Cu", cell=[[1e4, 0, 0], [1e4, 0.01, 0], [0, 0, 1e3]], pbc=True)
    with pytest.raises(GeometryError, match="here: .*images"):
        to_graph(atoms, 5.0, where="here")


BAD_STRUCTURES = {
    "position of 1e12 Å in a crystal": (lambda a: a.positions.__setitem__((1, 2), 1e12), "atom 1 .*1e\\+07"),
    "position of 1e20 Å": (lambda a: a.positions.__setitem__((0, 0), -1e20), "atom 0"),
    "cell of 1e8 Å": (lambda a: a.set_cell([1e8, 4, 4]), "cell"),
    "huge charge": (lambda a: a.info.__setitem__("charge", 1e300), "charge of 1e\\+300 e"),
    "huge atomic charge": (lambda a: a.set_initial_charges([0, 1e9]), "atom 1.*charge"),
    "a short vector beside a long one": (lambda a: a.set_cell([1e-6, 1e7, 10]), "overlap"),
    "numbers beyond the elements, and NaN": (
        lambda a: (a.set_atomic_numbers([500, 29]), a.positions.__setitem__((0, 0), np.nan)),
        "atom 0: atomic number 500",
    ),
    "infinite cell": (lambda a: a.set_cell([np.inf, 4, 4]), "not finite"),
    "sheet in a cell of no height": (lambda a: (a.set_cell([4, 4, 1e-9]), a.set_pbc([1, 1, 0])), "volume"),
}


@pytest.mark.parametrize("case", BAD_STRUCTURES)
def test_structures_out_of_bounds_are_named(case: str) -> None:
    """A number that no structure has is an error with the structure's place."""
    change, words = BAD_STRUCTURES[case]
    atoms = Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 2.3]], cell=[4, 4, 4], pbc=True)
    change(atoms)
    with pytest.raises(DataError, match=f"data.extxyz, frame 7.*{words}"):
        to_graph(atoms, 5.0, where="data.extxyz, frame 7")


@given(st.floats(-1e7, 1e7), st.floats(-1e7, 1e7))
def test_any_allowed_position_keeps_its_neighbours(x: float, y: float) -> None:
    """Moving a crystal anywhere within the bounds changes no neighbour list."""
    atoms = bulk("Cu", cubic=True)
    # Off the lattice, so that rounding of 2e-9 Å moves no atom across the cutoff.
    count = to_graph(atoms, 5.3).n_edges
    atoms.positions += np.clip([x, y, 0.0], -9.9e6, 9.9e6)
    assert to_graph(atoms, 5.3).n_edges == count


@pytest.mark.parametrize("cutoff", [3e5, 100.1, 0.0, -1.0, np.nan, np.inf])
def test_cutoffs_have_bounds(cutoff: float) -> None:
    """A cutoff that would search for ever is refused, in a configuration and in a call."""
    with pytest.raises(ValueError, match="cutoff"):
        to_graph(bulk("Cu"), cutoff)
    for model in ("mlanet", "leignn"):
        words = {"model": model, "cutoff": cutoff} | ({"irreps": "4x0e+4x1o"} if model == "mlanet" else {})
        with pytest.raises(ConfigError, match="cutoff"):
            parse(words, ModelConfig, "here")


def test_too_many_pairs_are_refused_before_they_are_searched() -> None:
    """1e15 pairs would fill any memory; the message says how many, at once."""
    positions, cell = np.random.default_rng(0).random((4000, 3)) * 10, np.eye(3) * 10
    start = time.monotonic()
    with pytest.raises(GeometryError, match=r"pairs of 4000 atoms within 90 Å"):
        neighbor_list(positions, cell, [True] * 3, 90.0)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("pbc", [(True, True, True), (True, True, False), (False, False, False)])
@pytest.mark.parametrize("size", [8, 400])
def test_expected_pairs_are_about_right(pbc, size: int) -> None:
    """The estimate that decides is within a factor of six of the truth, as it says."""
    cell = np.eye(3) * (size / 0.05) ** (1 / 3)
    positions = np.random.default_rng(1).random((size, 3)) @ cell
    box = np.where(np.array(pbc)[:, None], cell, 0.0)
    estimate = expected_pairs(positions, box, extent_of(positions, box, np.array(pbc)), 7.0)
    true = len(neighbor_list(positions, cell, pbc, 7.0).center)
    assert true / 6.5 < estimate < 6.5 * true + 7 * size
    assert plan_search(positions, box, np.array(pbc), 7.0).by_grid


def test_a_long_search_hears_signals() -> None:
    """Ctrl-C ends the wait for compiled code that does not return for seconds."""
    libc = ctypes.CDLL(None)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGALRM, interrupt)
    start = time.monotonic()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            heeding_signals(lambda: libc.sleep(20))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
    assert time.monotonic() - start < 10
    with pytest.raises(ZeroDivisionError):
        heeding_signals(lambda: 1 / 0)
    assert heeding_signals(lambda: 7) == 7


class Fragile:
    """A potential whose sums spread NaN over a batch that holds a structure without neighbours."""

    training = False
    cutoff = 4.0

    def eval(self) -> None: ...

    def train(self, mode: bool) -> None: ...

    def __call__(self, graph: AtomicGraph) -> Prediction:
        lone = graph.n_edges == 0 or int(torch.bincount(graph.center, minlength=graph.n_atoms).min()) == 0
        value = torch.nan if lone else 1.0
        return Prediction(
            torch.full((graph.n_structures,), value),
            torch.full((graph.n_atoms, 3), value),
            torch.full((graph.n_structures, 3, 3), value),
            torch.full((graph.n_atoms,), value),
        )

    said_of = __call__


def test_no_structure_touches_another_in_a_batch() -> None:
    """Where a batch comes out as NaN, its sound structures still get their numbers, and only the other is named."""
    good, bad = to_graph(bulk("Cu"), 4.0, where="a"), to_graph(Atoms("Cu"), 4.0, where="b")
    answers = list(predict(Fragile(), [good, bad, good]))  # type: ignore[arg-type]
    assert [bool(one.energy.isfinite()) for one in answers] == [True, False, True]
    require_finite(answers[0], good, "a")
    with pytest.raises(NotFiniteError, match="frame 1, atom 0: the model gives forces"):
        require_finite(answers[1], bad, "data.extxyz, frame 1")


def test_results_that_are_not_finite_are_errors() -> None:
    """Weights so large that forces overflow: finite weights, no number, an error with the structure's place."""
    potential = tiny()
    with torch.no_grad():
        for one in potential.parameters():
            one.mul_(1e25)
    with pytest.raises(NotFiniteError, match="big.extxyz, frame 4, atom 0: the model gives"):
        list(predict_frames(potential, [Frame(bulk("Cu"), "big.extxyz, frame 4")]))


@pytest.mark.parametrize("name", ["energy", "stress", "charges", "atomic_energies"])
def test_every_quantity_is_checked(name: str) -> None:
    """Infinity in any of them is found, not only in forces."""
    graph = to_graph(bulk("Cu"), 4.0)
    sound = Prediction(torch.ones(1), torch.ones(1, 3), torch.ones(1, 3, 3), torch.ones(1), torch.ones(1))
    require_finite(sound, graph, "here")
    bad = getattr(sound, name).clone()
    bad.view(-1)[0] = torch.inf
    with pytest.raises(NotFiniteError, match="here"):
        require_finite(dataclasses.replace(sound, **{name: bad}), graph, "here")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_neither_saved_nor_loaded(tmp_path: Path, value: float) -> None:
    """A model with one NaN weight is refused at both ends; what stood at the place stays."""
    potential = tiny()
    save_model(potential, tmp_path / "m.safetensors")
    before = (tmp_path / "m.safetensors").read_bytes()
    name, weight = next(iter(potential.named_parameters()))
    with torch.no_grad():
        weight.view(-1)[0] = value
    with pytest.raises(CheckpointError, match=f"not written: weight '{name}'"):
        save_model(potential, tmp_path / "m.safetensors")
    assert (tmp_path / "m.safetensors").read_bytes() == before
    (tmp_path / "bad.safetensors").write_bytes(signed(_metadata(before), dict(potential.state_dict())))
    with pytest.raises(CheckpointError, match=f"weight '{name}' holds NaN"):
        load_model(tmp_path / "bad.safetensors")


def _metadata(data: bytes) -> dict[str, str]:
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length])["__metadata__"]


HUGE = [
    {"irreps": "100000x0e+100000x1o", "layers": 100},
    {"irreps": "4096x0e+4096x1o", "layers": 60},
    {"irreps": "4x0e+4x1o", "hidden": 10**9},
    {"irreps": "4x0e+4x1o", "radial_functions": 10**9},
    {"irreps": "4x0e+4x1o", "radial_hidden": [8192] * 8},
    {"irreps": "4x0e+4x1o", "layers": 10**12},
    {"irreps": "+".join(["1x0e"] * 10**5)},
    {"model": "leignn", "channels": 4096, "layers": 64},
    {"model": "leignn", "channels": 10**9},
    {"model": "leignn", "radial_functions": 10**9},
]


@pytest.mark.parametrize("changes", HUGE, ids=str)
def test_a_small_file_cannot_ask_for_much_memory(tmp_path: Path, changes: dict[str, object]) -> None:
    """Seven hundred bytes whose header asks for a network of gigabytes: one error, and no allocation."""
    config = {"model": "mlanet"} | changes
    numbers = {"species": [14], "references": [0], "scale": [1], "mean_neighbors": 10, "stress_scale": 1}
    header = {"schema_version": 1, "version": "0", "config": config, "statistics": numbers, "card": {}, "parameters": 1}
    metadata = {"mlanet": "model", "header": json.dumps(header)}
    (tmp_path / "huge.safetensors").write_bytes(signed(metadata, {"a": torch.ones(3)}))

    def load() -> None:
        with pytest.raises((CheckpointError, ConfigError)):
            load_model(tmp_path / "huge.safetensors")

    start = time.monotonic()
    assert peak_bytes(load) < 2**26
    assert time.monotonic() - start < 20


@pytest.mark.parametrize(
    "change",
    [
        {"species": [500]},
        {"species": [-1]},
        {"mean_neighbors": float("nan")},
        {"references": [float("inf")]},
        {"scale": [1e400]},
        {"closest": [[float("nan")]]},
    ],
    ids=str,
)
def test_statistics_that_are_no_numbers_are_not_loaded(tmp_path: Path, change: dict[str, object]) -> None:
    """JSON lets NaN and infinity pass; a header does not."""
    save_model(tiny(), tmp_path / "m.safetensors")
    data = (tmp_path / "m.safetensors").read_bytes()
    metadata = _metadata(data)
    header = json.loads(metadata["header"])
    header["statistics"] |= {"species": [29], "references": [0.0], "scale": [1.0], "closest": []} | change
    metadata["header"] = json.dumps(header)
    (tmp_path / "bad.safetensors").write_bytes(signed(metadata, safetensors.torch.load(data)))
    with pytest.raises(CheckpointError, match=r"statistics hold NaN|no elements"):
        load_model(tmp_path / "bad.safetensors")


def test_allowance_counts_before_it_allocates() -> None:
    """What is within it is made, the first tensor beyond it is not."""
    with Allowance(1000):
        assert torch.zeros(20, 50).shape == (20, 50)
        with pytest.raises(MemoryError):
            torch.zeros(2**40)


@pytest.mark.parametrize("pbc", [(1, 1, 1), (1, 1, 0), (1, 0, 0)])
@pytest.mark.parametrize("long_range", ["dispersion", "coulomb"])
def test_long_range_sums_have_bounds(long_range: str, pbc) -> None:
    """A box of 1e6 Å would need 1e15 waves: refused with the structure's place, before any is made."""
    potential = tiny(long_range=long_range)
    far = Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 2.3]], cell=[1e6, 1e6, 1e6], pbc=pbc)
    if sum(pbc) == 1:
        far.positions[1, 1] = 1e5

    def ask() -> None:
        with pytest.raises(GeometryError, match="far.extxyz, frame 2: the long-range term would need"):
            list(predict_frames(potential, [Frame(far, "far.extxyz, frame 2")]))

    assert peak_bytes(ask) < 2**24
    (found,) = predict_frames(potential, [Frame(Atoms("Cu", cell=[4, 4, 40], pbc=pbc), "near")])
    assert np.isfinite(found.atoms.get_potential_energy())
