"""The native engine by itself: commands that never load torch say what they say with it, to the last digit."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import warnings
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from limited import SMALL as KNOWN
from limited import crystals, knowing
from native_systems import EVERY, potential
from systems import ethanol, slab, triclinic

import mlanet
from mlanet import MLANetCalculator
from mlanet.arrays import AnswerArrays, GraphArrays
from mlanet.batched_potential import BatchedPotential
from mlanet.checkpoint import save_model
from mlanet.cli.main import main
from mlanet.data.atoms import to_graph
from mlanet.data.structures import to_arrays
from mlanet.errors import CheckpointError, UnsupportedElementError
from mlanet.execution import Execution
from mlanet.graph import batch_graphs, split_graph
from mlanet.limits import of_batch
from mlanet.model_files import digest_of, model_path
from mlanet.native import NativePotential, model_cache
from mlanet.native.export import export_native
from mlanet.native.file import pack, read_arrays, read_header
from mlanet.ops.cpp import cache
from mlanet.potential import Potential

SMALL = {"irreps": "8x0e+8x1o", "layers": 2, "heads": 2, "key_dim": 4, "hidden": 8, "gate_channels": 1}
LITHIUM = str(files("mlanet") / "examples" / "li.POSCAR")
COMMANDS = {
    "predict": [LITHIUM, "--json"],
    "relax": [LITHIUM, "--steps", "3", "--output", "relaxed.extxyz", "--json"],
    "md": [LITHIUM, "--steps", "4", "--every", "2", "--output", "md", "--json"],
    "eos": [LITHIUM, "--points", "5", "--as-given", "--output", "eos", "--json"],
}


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache without models, with the kernels that there are."""
    kernels = cache.folder()
    place = tmp_path / "cache"
    place.mkdir(mode=0o700)
    if kernels is not None:
        (place / "kernels").symlink_to(kernels)
    monkeypatch.setenv("MLANET_CACHE", str(place))
    return place


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A file of lively weights in float32."""
    path = tmp_path / "model.safetensors"
    save_model(potential("mlanet_l1", torch.float32, **SMALL), path)
    return path


def same(one: Any, other: Any) -> None:
    """The same numbers, to the last digit."""
    known = [name for name in vars(one) if name != "vectors"]  # which are computed once they are asked for
    assert known == [name for name in vars(other) if name != "vectors"]
    for name in known:
        value = getattr(one, name)
        assert np.array_equal(value, getattr(other, name), equal_nan=isinstance(value, np.ndarray)), name


def test_commands_load_no_torch_and_say_the_same(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first call of each has torch beside the engine; of later ones neither torch nor e3nn is loaded."""
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    monkeypatch.chdir(first)
    expected = []
    for name, words in COMMANDS.items():
        assert main([name, *words, "--model", "elemental"]) in (0, 1)
        expected.append(json.loads(capsys.readouterr().out))
    assert len(list((own_cache / "models").glob("*.mlanet"))) == 2  # of float32, and of float64
    program = f"""
import sys
from mlanet.cli.main import main
for name, words in {COMMANDS!r}.items():
    assert main([name, *words, "--model", "elemental"]) in (0, 1)
    print("\\0")
    loaded = [one for one in ("torch", "e3nn", "sympy", "pymatgen") if sys.modules.get(one) is not None]
    assert not loaded, (name, loaded)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=second, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    timed = ("ms_per_step", "ns_per_day")
    for document, text in zip(expected, done.stdout.split("\0"), strict=False):
        found = json.loads(text)
        assert {key: one for key, one in found.items() if key not in timed} == {
            key: one for key, one in document.items() if key not in timed
        }
    for name in ("relaxed.extxyz", "md/trajectory.extxyz", "md/log.csv", "eos/results.csv"):
        assert (first / name).read_text() == (second / name).read_text(), name


@pytest.mark.parametrize("dtype", [None, "float64"])
def test_with_and_without_torch_to_the_last_digit(own_cache: Path, model: Path, dtype: str | None) -> None:
    """Every kind of structure, alone and in a batch; a model file that has changed is another model."""
    execution = Execution(dtype=dtype)
    with_torch, without = execution.answering(model), execution.answering(str(model))
    assert isinstance(with_torch, Potential) and isinstance(without, NativePotential)
    assert (without.cutoff, without.species, without.precision) == (
        with_torch.cutoff,
        with_torch.species,
        with_torch.precision,
    )
    assert without.statistics == with_torch.statistics
    graphs = [to_graph(one, without.cutoff) for one in EVERY.values()]
    for graph in (batch_graphs(graphs), *graphs):
        same(without.said_of(graph.arrays()), with_torch.said_of(graph).arrays())
    save_model(potential("mlanet_l1", torch.float32, **{**SMALL, "heads": 1}), model)
    assert isinstance(execution.answering(model), Potential)


def test_what_needs_torch_has_it(own_cache: Path, model: Path, tmp_path: Path) -> None:
    """Other kernels, other models, other devices: as ever, and nothing is kept for them."""
    leignn = tmp_path / "leignn.safetensors"
    save_model(potential("leignn_64", torch.float32, channels=8, layers=1, global_node=True), leignn)
    direct = tmp_path / "direct.safetensors"
    save_model(potential("mlanet_l1", torch.float32, **SMALL, forces="direct"), direct)
    for path, execution in (
        (leignn, Execution()),
        (direct, Execution()),
        (model, Execution(kernels="plain")),
        (model, Execution(max_memory=4.0)),
    ):
        for _ in range(2):
            found = execution.answering(path)
            assert isinstance(found, Potential)
    assert not list((own_cache / "models").glob("*.mlanet")) if (own_cache / "models").exists() else True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        atoms, calculator = triclinic(), MLANetCalculator(direct)
    assert not calculator.answering.conservative and calculator.get_forces(atoms).shape == (len(atoms), 3)


@pytest.mark.parametrize("damage", ["cut", "changed", "renamed", "others may write"])
def test_what_is_kept_is_not_believed(own_cache: Path, model: Path, damage: str) -> None:
    """A file that is not the one that was written here is passed over and made anew."""
    Execution().answering(model)
    (file,) = (own_cache / "models").glob("*.mlanet")
    right = file.read_bytes()
    if damage == "cut":
        file.write_bytes(right[: len(right) // 2])
    elif damage == "changed":
        file.write_bytes(right[:5000] + bytes([right[5000] ^ 1]) + right[5001:])
    elif damage == "renamed":
        name = model_cache._name(digest_of(model), "float64")
        file.rename(file.with_name(f"{name}.mlanet"))
        assert isinstance(Execution(dtype="float64").answering(model), Potential)
    else:
        file.chmod(0o666)
    assert model_cache.read(digest_of(model), None) is None
    assert isinstance(Execution().answering(model), Potential)
    assert file.read_bytes() == right
    assert isinstance(Execution().answering(model), NativePotential)


def test_only_the_newest_are_kept(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is written to for years stays small."""
    monkeypatch.setattr(model_cache, "MOST", 2)
    for digest in ("a", "b", "c"):
        model_cache.write(digest, None, digest.encode())
    assert [model_cache.read(digest, None) for digest in ("b", "c")] == [b"b", b"c"]
    assert len(list((own_cache / "models").glob("*.mlanet"))) == 2


def test_a_native_file_is_a_model(own_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By its path alone, with its limits; torch and other kernels know that they cannot read it."""
    subject = knowing(KNOWN)
    native = tmp_path / "one.mlanet"
    export_native(subject, native)
    frames = crystals(3, seed=5)
    alone = NativePotential(native)
    graphs = [to_arrays(one, alone.cutoff) for one in frames]
    said = [alone.said_of(one) for one in graphs]
    for found, atoms in zip(of_batch(alone.domain, alone.statistics, graphs, said), frames, strict=True):
        expected = MLANetCalculator(subject)
        expected.calculate(atoms)
        assert found.extrapolation == expected.assessment.extrapolation
        assert found.energy_std == pytest.approx(expected.assessment.energy_std, rel=1e-5)  # float32 in files
        calculator = MLANetCalculator(native)
        assert np.array_equal(calculator.get_forces(atoms), expected.results["forces"])
        with pytest.raises(CheckpointError, match="a native model, which the engine alone computes"):
            _ = calculator.potential
    frames[0].write(tmp_path / "one.extxyz")
    assert main(["predict", str(tmp_path / "one.extxyz"), "--model", str(native), "--kernels", "plain"]) == 3
    assert "with kernels auto or native" in capsys.readouterr().err
    assert main(["predict", str(tmp_path / "one.extxyz"), "--model", str(native), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["predictions"][0]["extrapolation"] == "inside"
    header, arrays = read_header(native.read_bytes()), read_arrays(native.read_bytes())
    del header["statistics"]
    native.write_bytes(pack(header, arrays))
    with pytest.raises(CheckpointError, match=r"one\.mlanet: it has no statistics; write it again"):
        NativePotential(native)


def test_the_calculator_without_torch(own_cache: Path, model: Path) -> None:
    """Copies, a skin, the model with torch when it is asked for, and the same errors and warnings."""
    MLANetCalculator(model)
    calculator = MLANetCalculator(model, skin=0.5)
    assert isinstance(calculator.answering, NativePotential)
    atoms = triclinic()
    forces = calculator.get_forces(atoms)
    assert isinstance(calculator.prediction, mlanet.Prediction) and calculator.prediction.forces.dtype == torch.float32
    atoms.positions[0] += 0.1
    moved = calculator.get_forces(atoms)
    assert calculator.neighbor_lists_built == 1 and not np.array_equal(moved, forces)
    again = pickle.loads(pickle.dumps(calculator))
    assert isinstance(again.answering, NativePotential) and np.array_equal(again.get_forces(atoms), moved)
    assert np.array_equal(MLANetCalculator(calculator.potential).get_forces(atoms), moved)
    with pytest.raises(UnsupportedElementError, match=r"not trained on Pu \(first at atom 0\)"):
        calculator.get_potential_energy(Atoms("Pu"))
    charged = ethanol()
    charged.info["charge"] = 1.0
    with pytest.warns(UserWarning, match=r"total charge of \+1 e, which this model ignores"):
        calculator.get_potential_energy(charged)
    save_model(potential("mlanet_l1", torch.float32, **{**SMALL, "heads": 1}), model)
    with pytest.raises(CheckpointError, match="is not the model any more"):
        _ = pickle.loads(pickle.dumps(calculator)).potential


def test_many_together(own_cache: Path, model: Path) -> None:
    """Batches without torch say what batches with it say, and one that fails costs the others nothing."""
    found, expected = [], []
    for _, into in ((0, expected), (1, found)):
        structures = [triclinic(), slab(), ethanol(), Atoms("Pu")]
        errors = BatchedPotential(Execution().answering(model))(structures)
        assert [error is None for error in errors] == [True, True, True, False]
        into += [(one.get_potential_energy(), one.get_forces()) for one in structures[:3]]
    for (energy, forces), (other, others) in zip(found, expected, strict=True):
        assert energy == other and np.array_equal(forces, others)


def test_arrays_are_graphs() -> None:
    """Joined, parted, cut and measured as graphs of tensors are."""
    graphs = [to_graph(one, 4.0) for one in EVERY.values()]
    batch = batch_graphs(graphs)
    joined = GraphArrays.joined([one.arrays() for one in graphs])
    same(joined, batch.arrays())
    for index, one in enumerate(split_graph(batch)):
        same(joined.alone(index), one.arrays())
    same(joined.within(3.0), batch.within(3.0).arrays())
    np.testing.assert_allclose(joined.vectors, batch.edge_vectors().numpy(), atol=1e-13)
    assert np.array_equal(joined.atoms_per_structure(), batch.atoms_per_structure().numpy())
    np.testing.assert_allclose(joined.volumes, batch.volume().numpy(), rtol=1e-12)
    assert joined.size() == batch.size() and joined.without_neighbors() == batch.without_neighbors()
    np.testing.assert_allclose(joined.nearest(), batch.nearest(), rtol=1e-12)
    empty = to_graph(Atoms("H"), 4.0)
    assert (empty.arrays().size(), empty.arrays().without_neighbors()) == (empty.size(), [0])
    assert isinstance(AnswerArrays(*[np.zeros(1)] * 4).arrays(), AnswerArrays)


def test_the_packaged_model_is_known_to_the_engine() -> None:
    """So that nobody who installs the package waits for torch."""
    assert not (found := mlanet.native.export.obstacle(mlanet.load())), found
    assert model_path("universal").is_file()
