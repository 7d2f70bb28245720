"""A short run of the fuzzer, and the laws that any structure, cell, file and batch obeys."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import fuzz_inputs
import fuzz_material
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.io import write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlanet.checkpoint import load_model
from mlanet.data.atoms import to_graph
from mlanet.data.read import read_frames
from mlanet.errors import MLANetError
from mlanet.graph import Prediction
from mlanet.inference import predict, require_finite
from mlanet.potential import Potential

EACH = {
    "structure": 60,
    "batch": 8,
    "frames": 80,
    "config": 40,
    "model file": 20,
    "text": 4,
    "override": 3,
    "arguments": 4,
}
"""Inputs of each kind; `make fuzz` tries ten thousand."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a model and structures, and in it for the time of these tests."""
    place, before = tmp_path_factory.mktemp("fuzz"), Path.cwd()
    os.chdir(place)
    fuzz_material.prepare()
    yield place
    os.chdir(before)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", EACH)
def test_some_inputs_of_every_kind(folder: Path, kind: str) -> None:
    """A result that is finite, or one line and a status."""
    for number in range(EACH[kind]):
        fuzz_inputs.ACTIONS[kind][1](np.random.default_rng([7, number]))


@pytest.mark.filterwarnings("ignore")
def test_the_fuzzer_finds_what_is_broken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that answers with NaN, and nobody who checks, is found out: nothing of this passes by itself."""

    def spoiled(*words: object, **options: object) -> Iterator[Prediction]:
        for one in predict(*words, **options):  # type: ignore[arg-type]
            yield dataclasses.replace(one, energy=one.energy * torch.nan)

    monkeypatch.setattr("mlanet.workflows.answers.predict", spoiled)
    monkeypatch.setattr("mlanet.workflows.answers.require_finite", lambda *_: None)
    found = []
    for number in range(60):
        try:
            fuzz_inputs.try_structure(np.random.default_rng([7, number]))
        except (fuzz_inputs.Broken, RuntimeError, ValueError, ArithmeticError) as error:
            found.append(error)
    assert found


@pytest.fixture(scope="module")
def potential(folder: Path) -> Potential:
    return load_model(fuzz_material.MODEL, dtype=torch.float64)


NUMBER = st.floats(allow_nan=True, allow_infinity=True, width=64)
PLACE = st.one_of(st.floats(-8, 8), NUMBER)
LENGTH = st.one_of(st.floats(2, 9), NUMBER)


@st.composite
def structures(draw: st.DrawFn) -> Atoms:
    """Up to five atoms anywhere, in any cell, sensible ones often."""
    count = draw(st.integers(0, 5))
    rows = draw(st.lists(st.tuples(PLACE, PLACE, PLACE), min_size=count, max_size=count))
    cell = [draw(st.tuples(LENGTH, st.floats(-3, 3), st.floats(-3, 3))) for _ in range(3)]
    numbers = draw(st.lists(st.sampled_from([13, 29]), min_size=count, max_size=count))
    pbc = draw(st.tuples(st.booleans(), st.booleans(), st.booleans()))
    rolled = [np.roll(row, k) for k, row in enumerate(cell)]
    return Atoms(numbers=numbers, positions=np.reshape(rows, (count, 3)), cell=rolled, pbc=pbc)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(structures(), st.integers(0, 2))
def test_any_structure_in_any_batch(potential: Potential, atoms: Atoms, place: int) -> None:
    """It is right or refused, and the good ones beside it are as they are alone."""
    good = [to_graph(bulk("Cu", a=3.5 + 0.1 * k, cubic=True), potential.cutoff) for k in range(2)]
    alone = [next(predict(potential, [one])) for one in good]
    try:
        graph = to_graph(atoms, potential.cutoff, where="here")
    except MLANetError as error:
        assert "here" in str(error)
        return
    answers = list(predict(potential, [*good[:place], graph, *good[place:]]))
    mine = answers.pop(place)
    require_finite(mine, graph, "here")
    for one, other in zip(answers, alone, strict=True):
        assert torch.allclose(one.energy, other.energy, rtol=0, atol=1e-10)
        assert torch.allclose(one.forces, other.forces, rtol=0, atol=1e-10)
        assert torch.allclose(one.stress, other.stress, rtol=0, atol=1e-10)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(*[st.floats(-1e6, 1e6)] * 3), min_size=1, max_size=4),
    st.lists(st.floats(1, 1e6), min_size=3, max_size=3),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_any_sound_structure_survives_a_file(folder: Path, rows, lengths, pbc) -> None:
    """Written and read again: elements, positions, cell and period as they were, to the digits of the format."""
    atoms = Atoms("Cu" * len(rows), positions=rows, cell=lengths, pbc=pbc)
    write("one.extxyz", atoms, format="extxyz")
    (back,) = read_frames("one.extxyz")
    assert np.allclose(back.atoms.positions, atoms.positions, rtol=0, atol=1e-8)
    assert np.allclose(back.atoms.cell.array, atoms.cell.array, rtol=1e-12)
    assert back.atoms.pbc.tolist() == list(pbc)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["a.extxyz", "a.cif", "POSCAR"]),
    st.one_of(st.text(max_size=60), st.binary(max_size=60)),
    st.integers(0, 400),
)
def test_any_text_anywhere_in_a_file(folder: Path, name: str, text: str | bytes, at: int) -> None:
    """Read or refused by an error that names the file."""
    data = fuzz_material.TEXTS[name].encode()
    noise = text if isinstance(text, bytes) else text.encode(errors="replace")
    Path(name).write_bytes(data[:at] + noise + data[at:])
    try:
        for frame in read_frames(name):
            assert len(frame.atoms) and np.isfinite(frame.atoms.positions).all()
    except MLANetError as error:
        assert name in str(error)
