"""The native engine says what the Python model says: every switch, every kind of structure, ghosts, threads."""

from __future__ import annotations

import copy
import dataclasses
import functools
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase.build import bulk
from limited import SMALL as LIMITED
from limited import SMALL_LEIGNN as LIMITED_LEIGNN
from limited import knowing
from native_systems import EVERY, apart, batch, potential, supported_presets
from systems import triclinic

from mlanet.data.atoms import to_graph
from mlanet.errors import ConfigError, GeometryError
from mlanet.graph import AtomicGraph
from mlanet.limits import assess
from mlanet.native import Answer, Engine
from mlanet.native.answers import NativeAnswers
from mlanet.native.engine import LIMITS, _library
from mlanet.native.export import KINDS, native_bytes, obstacle
from mlanet.potential import Potential

SMALL = {
    "irreps": "12x0e+12x1o",
    "layers": 2,
    "heads": 2,
    "key_dim": 5,
    "hidden": 13,
    "gate_channels": 1,
    "combine": "product",
}
"""Sizes that fill no vector."""
LIGHT = {"channels": 10, "layers": 2}
"""The same of LEIGNN."""
BOTH = [("mlanet_l1", SMALL), ("leignn_64", LIGHT)]
OTHER_MESSAGES: list[dict[str, Any]] = [
    {"attention": "none", "output_gate": "head"},
    {"attention_envelope": "once", "output_gate": "head"},
]
"""Weighed alike, or by logits in another way, and turned down or up as a whole."""
FORMS = [*BOTH, *(("mlanet_l1", SMALL | one) for one in OTHER_MESSAGES)]

SWITCHES: list[dict[str, Any]] = [
    {},
    {"gate_channels": 3, "heads": 3},
    {"message": "full"},
    {"message": "full", "gate_channels": 2, "radial_hidden": (5,)},
    {"radial_hidden": (9, 12, 7)},
    {"combine": "sum"},
    {"norm": "none", "node_product": "none"},
    {"norm": "none", "irreps": "4x0e+4x1o"},
    {"node_product": "none"},
    {"pooling": "sum"},
    {"pooling_bound": None},
    {"isolated_atom": "free"},
    {"bonded": "learned"},
    {"repulsion": "none"},
    {"elements": "periodic"},
    {"bond_functions": 5},
    {"layers": 1},
    {"attention": "none"},
    {"attention": "none", "combine": "sum", "output_gate": "head"},
    {"attention": "none", "message": "full", "gate_channels": 2},
    {"attention": "none", "attention_envelope": "once", "norm": "none", "irreps": "4x0e+4x1o", "layers": 1},
    {"attention_envelope": "once"},
    {"attention_envelope": "once", "combine": "sum"},
    {"attention_envelope": "once", "message": "full", "output_gate": "head", "heads": 3},
    {"output_gate": "head"},
    {"output_gate": "head", "norm": "none", "node_product": "none"},
]
LIGHT_SWITCHES: list[dict[str, Any]] = [
    {},
    {"layers": 1},
    {"layers": 1, "update": "painn"},
    {"radial_basis": "gaussian"},
    {"filter_bias": "raw"},
    {"filter_bias": "none", "radial_functions": 5},
    {"scaling": "published"},
    {"update": "painn", "layers": 3},
    {"update": "painn", "scaling": "published", "invariant": "norm"},
    {"invariant": "squared"},
    {"invariant": "norm", "channels": 2},
    {"isolated_atom": "free"},
    {"repulsion": "none"},
]


def expected(subject: Potential, graph: AtomicGraph) -> Any:
    """By Python, with features."""
    subject.watched = True
    return subject(graph)


@pytest.mark.parametrize(
    ("preset", "changes"),
    [("mlanet_l1", SMALL | one) for one in SWITCHES] + [("leignn_64", LIGHT | one) for one in LIGHT_SWITCHES],
    ids=str,
)
def test_every_switch(preset: str, changes: dict[str, Any]) -> None:
    """Energies, forces, stress and features to twelve digits: molecules, crystals, lone and crowded atoms."""
    subject = potential(preset, **changes)
    graph = batch(subject.cutoff)
    differences = apart(NativeAnswers(subject)(graph, True), expected(subject, graph))
    assert max(differences.values()) < 1e-12, differences


@pytest.mark.parametrize("preset", supported_presets())
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=["64", "32"])
def test_every_preset(preset: str, dtype: torch.dtype, tolerance: float) -> None:
    """In both precisions; crowded atoms, whose forces cancel, in float64 only."""
    subject = potential(preset, dtype)
    graph = to_graph(triclinic(), subject.cutoff) if dtype == torch.float32 else batch(subject.cutoff)
    differences = apart(NativeAnswers(subject)(graph.to(None, dtype), True), expected(subject, graph))
    assert max(differences.values()) < tolerance, differences


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["mlanet_l2", "mlanet_elements", "leignn_64"])
def test_as_users_have_it_compiled(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With full optimisation, which other tests leave out, in both precisions."""
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr("mlanet.native.engine._library", functools.cache(_library.__wrapped__))
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        test_every_preset(preset, dtype, tolerance)


def computed(engine: Engine, graph: AtomicGraph, displaced: Any = 0.0, strain: Any = 0.0) -> Answer:
    """Of a graph whose atoms are displaced (N, 3), all strained (3, 3) afterwards."""
    n, center, neighbor = graph.n_atoms, graph.center.numpy(), graph.neighbor.numpy()
    moved = graph.positions.numpy() * 0.0 + displaced
    vectors = (graph.edge_vectors().numpy() + moved[neighbor] - moved[center]) @ (np.eye(3) + strain)
    species = np.searchsorted(engine.species, graph.numbers.numpy())
    return engine.compute(species, np.searchsorted(center, np.arange(n + 1)), neighbor, vectors)


@pytest.mark.parametrize("name", ["triclinic", "crowded", "near"])
@pytest.mark.parametrize(
    ("preset", "changes"), [("mlanet_l1", {**SMALL, "bonded": "learned", "bond_functions": 3}), *FORMS[1:]], ids=str
)
def test_forces_and_virial_are_derivatives(preset: str, changes: dict[str, Any], name: str) -> None:
    """Central differences of the engine's own energy."""
    subject = potential(preset, **changes)
    engine, graph = Engine(native_bytes(subject)), to_graph(EVERY[name], subject.cutoff)
    found, generator, step = computed(engine, graph), np.random.default_rng(1), 1e-5
    way, strain = generator.normal(size=(graph.n_atoms, 3)), generator.normal(size=(3, 3))

    def slope(displaced: Any, strained: Any) -> float:
        ends = [computed(engine, graph, sign * step * displaced, sign * step * strained).energy for sign in (1, -1)]
        return (ends[0] - ends[1]) / (2 * step)

    assert slope(way, 0 * strain) == pytest.approx(-(found.forces * way).sum(), rel=1e-7)
    terms = found.virial * strain
    assert slope(0 * way, strain) == pytest.approx(terms.sum(), rel=1e-7, abs=1e-7 * abs(terms).max())


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("name", ["triclinic", "crowded"])
@pytest.mark.parametrize(("preset", "changes"), FORMS, ids=str)
def test_ghosts(preset: str, changes: dict[str, Any], name: str, precision: str) -> None:
    """Every image of an atom as a ghost of its own, passed on and back by us: the same answer."""
    subject = potential(preset, **changes)
    engine, graph = Engine(native_bytes(subject), precision=precision), to_graph(EVERY[name], subject.cutoff)
    whole, n = computed(engine, graph), graph.n_atoms
    images = np.hstack([graph.neighbor.numpy()[:, None], graph.shift.numpy()])
    elsewhere = images[:, 1:].any(axis=1)
    places, ghost = np.unique(images[elsewhere], axis=0, return_inverse=True)
    owner, neighbor = places[:, 0], images[:, 0].copy()
    neighbor[elsewhere] = n + ghost.reshape(-1)
    widths = []

    def forward(rows: Any) -> None:
        widths.append(rows.shape[1])
        rows[n:] = rows[owner]

    def reverse(rows: Any) -> None:
        np.add.at(rows, owner, rows[n:])
        rows[n:] = np.nan

    kinds = np.searchsorted(engine.species, graph.numbers.numpy())
    start = np.searchsorted(graph.center.numpy(), np.arange(n + 1))
    vectors = graph.edge_vectors().numpy()
    found = engine.compute(np.append(kinds, kinds[owner]), start, neighbor, vectors, forward, reverse)
    forces = found.forces[:n].copy()
    np.add.at(forces, owner, found.forces[n:])
    tolerance = 1e-12 if precision == "float64" else 2e-5
    assert found.energy == pytest.approx(whole.energy, rel=tolerance)
    assert abs(forces - whole.forces).max() <= tolerance * abs(whole.forces).max()
    assert abs(found.virial - whole.virial).max() <= tolerance * abs(whole.virial).max()
    assert max(widths) <= engine.largest_width
    with pytest.raises(GeometryError, match="needs an exchange"):
        engine.compute(np.append(kinds, kinds[owner]), start, neighbor, vectors)


@pytest.mark.parametrize(("preset", "changes"), FORMS, ids=str)
def test_threads_and_repetition(preset: str, changes: dict[str, Any]) -> None:
    """Two threads differ by rounding; the same engine says the same again after other structures, to the last bit."""
    subject = potential(preset, **changes)
    engine = Engine(native_bytes(subject))
    graphs = [to_graph(EVERY[name], subject.cutoff) for name in ("triclinic", "ethanol", "lone", "triclinic")]
    first, *_, again = [computed(engine, one) for one in graphs]
    assert np.array_equal(first.forces, again.forces)
    engine.threads = 2
    both = computed(engine, graphs[0])
    assert abs(both.forces - first.forces).max() < 1e-12 * abs(first.forces).max()
    assert both.energy == pytest.approx(first.energy, rel=1e-14)


@pytest.mark.parametrize(
    "changes", [{}, {"attention": "none"}, {"message": "full", "attention_envelope": "once"}], ids=str
)
def test_attention_is_kept_or_found_anew(changes: dict[str, Any]) -> None:
    """A crystal too large for the place of the attention has the forces of its small cell; then the small one again."""
    subject = potential("mlanet_l1", **SMALL | {"hidden": 64} | changes)
    engine, cell = Engine(native_bytes(subject)), EVERY["triclinic"]
    small, large = (to_graph(one, subject.cutoff) for one in (cell, cell * (6, 6, 6)))
    assert large.n_edges * 2 * 64 * 8 > 2**25  # bytes of what is found of an edge, at least
    few, many, again = (computed(engine, one) for one in (small, large, small))
    assert np.array_equal(few.forces, again.forces)
    assert many.energy == pytest.approx(216 * few.energy, rel=1e-12)
    assert abs(many.forces.reshape(216, -1, 3) - few.forces).max() < 1e-11 * abs(few.forces).max()


@pytest.mark.parametrize(("preset", "changes"), BOTH)
def test_atomic_parts_sum_up(preset: str, changes: dict[str, Any]) -> None:
    """Atomic energies to the energy, atomic virials to the virial, forces to nothing."""
    subject = potential(preset, **changes)
    found = computed(Engine(native_bytes(subject)), to_graph(EVERY["slab"], subject.cutoff))
    assert found.atomic_energies.sum() == pytest.approx(found.energy, rel=1e-14)
    assert found.atomic_virials.sum(0) == pytest.approx(found.virial, rel=1e-12)
    assert abs(found.forces.sum(0)).max() < 1e-12 * abs(found.forces).max()


@pytest.mark.parametrize(("preset", "changes"), BOTH)
def test_no_atoms_and_pairs_beyond_the_cutoff(preset: str, changes: dict[str, Any]) -> None:
    """Nothing has energy 0; pairs of a wider list count as absent."""
    subject = potential(preset, **changes)
    engine = Engine(native_bytes(subject))
    nothing = engine.compute([], [0], [], [])
    assert (nothing.energy, len(nothing.forces)) == (0.0, 0)
    wide, narrow = (to_graph(EVERY["triclinic"], reach) for reach in (subject.cutoff + 1.0, subject.cutoff))
    assert computed(engine, wide).energy == pytest.approx(computed(engine, narrow).energy, rel=1e-14)


def test_what_has_no_meaning_is_refused() -> None:
    """Unknown elements, neighbours that are not there, atoms in one place, vectors that are no numbers."""
    engine = Engine(native_bytes(potential("mlanet_l1", **SMALL)))
    for species, start, neighbor, vectors, complaint in (
        ([3], [0, 0], [], [], "does not know"),
        ([-1], [0, 0], [], [], "does not know"),
        ([0], [0, 1], [1], [[1.0, 0, 0]], "is not there"),
        ([0], [0, 1], [0], [[0.0, 0, 0]], "neighbour at 0"),
        ([0], [0, 1], [0], [[np.nan, 0, 0]], "neighbour at nan"),
        ([0, 0], [0, 2, 1], [1], [[1.0, 0, 0]], "end before they begin"),
        ([0], [1, 1], [0], [[1.0, 0, 0]], "impossible sizes"),
        ([0], [0, 2], [0], [[1.0, 0, 0]], "start ends at"),
    ):
        with pytest.raises(GeometryError, match=complaint):
            engine.compute(species, start, neighbor, vectors)


@pytest.mark.parametrize(
    ("preset", "changes", "setting"),
    [
        ("mlanet_l1", {"attention": "gatv2"}, "attention: gatv2"),
        ("mlanet_l1", {"attention": "fctp"}, "attention: fctp"),
        ("mlanet_l1", {"pooling": "extensive"}, "pooling: extensive"),
        ("mlanet_l1", {"forces": "direct"}, "forces: direct"),
        ("mlanet_l1", {"charge": "total"}, "charge: total"),
        ("mlanet_l2_coulomb", {}, "long_range: coulomb"),
        ("mlanet_l2", {"outputs": ("dipole",)}, "outputs: dipole"),
        ("mlanet_l1", {"message": "full", "combine": "sum"}, "combine: sum"),
        ("mlanet_l1", {"radial_hidden": (4, 4, 4, 4)}, "radial_hidden"),
        ("leignn_64", {"global_node": True}, "global_node: true"),
        ("leignn_64", {"neighbor_cap": 20}, "neighbor_cap: 20"),
        ("leignn_direct", {}, "forces: direct"),
        ("leignn_64", {"charge": "total"}, "charge: total"),
        ("leignn_dispersion", {}, "long_range: dispersion"),
        ("leignn_64", {"outputs": ("dipole",)}, "outputs: dipole"),
    ],
)
def test_what_is_not_supported_is_named(preset: str, changes: dict[str, Any], setting: str) -> None:
    """At export, by the setting."""
    subject = potential(preset, **changes)
    assert setting in obstacle(subject)
    with pytest.raises(ConfigError, match=setting):
        native_bytes(subject)


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda one: one.__name__.rsplit(".", 1)[-1])
def test_the_page_says_why(kind: Any) -> None:
    """Each setting of which the engine knows some values only is in the table of docs/native.md."""
    page = (Path(__file__).parents[2] / "docs" / "native.md").read_text(encoding="utf-8")
    reasons = page.split("## Supported models", 1)[1].split("\n## ", 1)[0]
    for name in (*kind.SUPPORTED, "combine: sum", "radial_hidden", "tables"):
        assert name in reasons, name


def test_filters_from_tables_are_not_the_engine_s() -> None:
    """A potential whose filters are tabulated answers by torch, and says why."""
    subject = potential("leignn_64", **LIGHT).tabulated()
    with pytest.raises(ConfigError, match="tabulated"):
        native_bytes(subject)


def test_engines_are_copied_and_pickled() -> None:
    """Each has memory of its own."""
    subject = potential("mlanet_l1", **SMALL)
    engine, graph = Engine(native_bytes(subject)), to_graph(EVERY["ethanol"], subject.cutoff)
    energy = computed(engine, graph).energy
    for other in (copy.deepcopy(engine), pickle.loads(pickle.dumps(engine))):
        assert computed(other, graph).energy == energy


def test_the_engine_needs_no_torch() -> None:
    """Importing it does not import torch."""
    code = "import sys, mlanet.native; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@functools.cache
def known(preset: str) -> Potential:
    """A potential that knows its limits, in float64; see `limited`."""
    return knowing(LIMITED_LEIGNN if preset == "leignn" else LIMITED)


def split_in_two(graph: AtomicGraph, subject: Potential) -> Any:
    """The limits of all atoms, said by two processes that see half of them each, the other half as ghosts."""
    engines, n = [Engine(native_bytes(subject)) for _ in range(2)], graph.n_atoms
    half, meeting, rows = n // 2, threading.Barrier(2), [None, None]
    center, neighbor = graph.center.numpy(), graph.neighbor.numpy()
    kinds, vectors = np.searchsorted(engines[0].species, graph.numbers.numpy()), graph.edge_vectors().numpy()
    answers: list[Any] = [None, None]

    def process(k: int) -> None:
        mine = np.arange(half) if k == 0 else np.arange(half, n)
        theirs = np.setdiff1d(np.arange(n), mine)
        place = np.argsort(np.concatenate([mine, theirs]))
        here = np.isin(center, mine)

        def forward(own: Any) -> None:
            rows[k] = own
            meeting.wait()
            own[len(mine) :] = rows[1 - k][: len(theirs)]
            meeting.wait()

        def reverse(own: Any) -> None:
            rows[k] = own
            meeting.wait()
            own[: len(mine)] += rows[1 - k][len(theirs) :]
            meeting.wait()

        start = np.searchsorted(place[center[here]], np.arange(len(mine) + 1))
        order = kinds[np.concatenate([mine, theirs])]
        answers[k] = engines[k].compute(order, start, place[neighbor[here]], vectors[here], forward, reverse, True)

    threads = [threading.Thread(target=process, args=(k,)) for k in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return [np.concatenate([getattr(one, name) for one in answers]) for name in LIMITS]


@pytest.mark.parametrize("preset", ["mlanet", "leignn"])
@pytest.mark.parametrize("far", [0.05, 0.6])
def test_limits_are_those_of_python(preset: str, far: float) -> None:
    """Distances and standard errors of atoms, inside and far outside of the training set, of one process and of two."""
    subject = known(preset)
    atoms = bulk("Au", cubic=True) * (2, 1, 1)
    atoms.rattle(far, seed=1)
    if far > 0.5:
        atoms.numbers[:3] = 29
    graph = to_graph(atoms, subject.cutoff)
    engine = Engine(native_bytes(subject))
    said = assess(subject.domain, subject.statistics, graph, subject.with_kernels("plain")(graph))
    start = np.searchsorted(graph.center.numpy(), np.arange(graph.n_atoms + 1))
    species, vectors = np.searchsorted(engine.species, atoms.numbers), graph.edge_vectors().numpy()
    found = engine.compute(species, start, graph.neighbor.numpy(), vectors, limits=True)
    alone = [getattr(found, name) for name in LIMITS]
    expected = [said.distance, said.energies_std, said.forces_std]
    assert (said.distance.max() > 2) == (far > 0.5)
    for one, two, right in zip(alone, split_in_two(graph, subject), expected, strict=True):
        assert one == pytest.approx(right, rel=1e-9) and two == pytest.approx(right, rel=1e-9)


def test_only_what_is_known_is_said() -> None:
    """A model without limits, and one whose errors were not measured."""
    words = ([0, 0], [0, 1, 2], [1, 0], [[0, 0, 2.5], [0, 0, -2.5]])
    bare = Engine(native_bytes(potential("mlanet_l1", **SMALL))).compute(*words, limits=True)
    assert [getattr(bare, name) for name in LIMITS] == [None] * 3
    subject = copy.copy(known("mlanet"))
    assert subject.domain is not None
    subject.domain = dataclasses.replace(subject.domain, energy=np.zeros(0), forces=np.zeros(0), stress=np.zeros(0))
    distance, *errors = (getattr(Engine(native_bytes(subject)).compute(*words, limits=True), name) for name in LIMITS)
    assert len(distance) == 2 and errors == [None, None]
    assert Engine(native_bytes(subject)).compute(*words).distances is None
