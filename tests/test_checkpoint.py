"""A model or training state comes back bit by bit, and any file that is not one is refused with a reason."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from ase.io import read
from hypothesis import given
from hypothesis import strategies as st

import mlanet
from mlanet.checkpoint import (
    SCHEMA_VERSION,
    copied,
    load_model,
    load_state,
    model_path,
    packaged_models,
    read_model_header,
    save_model,
    save_state,
)
from mlanet.config import parse
from mlanet.data.atoms import to_graph
from mlanet.errors import CheckpointError, ConfigError
from mlanet.models import ModelConfig
from mlanet.potential import Potential
from mlanet.statistics import Statistics

CONFIG = parse({"model": "mlanet", "irreps": "8x0e+8x1o", "layers": 1, "heads": 2, "hidden": 8}, ModelConfig, "test")


def potential(statistics: Statistics | None = None) -> Potential:
    """A small MLANet with random weights."""
    return Potential.build(CONFIG, statistics or Statistics((1, 8), (-13.6, -2043.1), (1.7, 0.3), 12.3, 0.01))


def assert_same_bits(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    """Names, types and every bit agree."""
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype
        assert one[name].numpy().tobytes() == other[name].numpy().tobytes(), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_model_comes_back_bit_by_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    """Weights, configuration, statistics and card of a loaded model are those that were saved."""
    ours = potential().to(dtype)
    card = {"data": "water", "errors": {"forces": 0.1 + 0.2}, "tricky": '"sha256":"' + "0" * 64}
    save_model(ours, tmp_path / "m.safetensors", card)
    theirs = load_model(tmp_path / "m.safetensors")
    header = read_model_header(tmp_path / "m.safetensors")
    assert_same_bits(ours.state_dict(), theirs.state_dict())
    assert theirs.dtype == dtype and not theirs.training
    assert theirs.references.dtype == torch.float64 and torch.equal(theirs.references, ours.references)
    assert theirs.statistics == ours.statistics == header.statistics
    assert header.config == theirs.model.config == CONFIG
    assert header.card == card and header.version == mlanet.__version__ and header.schema_version == SCHEMA_VERSION
    assert header.parameters == sum(p.numel() for p in ours.parameters())
    assert len(header.digest) == 64


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=3, max_size=3))
def test_float64_references_are_exact(tmp_path_factory: pytest.TempPathFactory, values: list[float]) -> None:
    """Every finite float64 survives the header, signed zeros and subnormal numbers included."""
    path = tmp_path_factory.mktemp("references") / "m.safetensors"
    save_model(potential(Statistics((1, 8), (values[0], values[1]), (values[2], 1.0), 12.0)), path)
    back = read_model_header(path).statistics
    assert np.array([*back.references, back.scale[0]]).tobytes() == np.array(values).tobytes()


def test_loading_can_change_precision_but_not_references(tmp_path: Path) -> None:
    """float32 -> float64 widens the weights and leaves the references in full float64, and so does the way back."""
    save_model(potential(), tmp_path / "m.safetensors")
    wide = load_model(tmp_path / "m.safetensors", dtype=torch.float64)
    assert wide.dtype == torch.float64
    assert wide.references.tolist() == [-13.6, -2043.1]
    save_model(wide, tmp_path / "wide.safetensors")
    narrow = load_model(tmp_path / "wide.safetensors", dtype=torch.float32)
    assert_same_bits(narrow.state_dict(), load_model(tmp_path / "m.safetensors").state_dict())
    assert narrow.references.tolist() == [-13.6, -2043.1]


def test_loading_leaves_the_random_state_alone(tmp_path: Path) -> None:
    """The next random number after a load is the one that would have come without it."""
    save_model(potential(), tmp_path / "m.safetensors")
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    load_model(tmp_path / "m.safetensors")
    assert torch.equal(torch.rand(4), expected)


def test_a_training_state_comes_back_bit_by_bit(tmp_path: Path) -> None:
    """All types of tensors, tied and strided ones too, NaN payloads and random states; header data exactly."""
    base = torch.randn(6, 4)
    tensors = {
        "strided": base.t()[1:],
        "tied": base,
        "again": base,
        "double": torch.tensor([float("nan"), float("-inf"), -0.0, 5e-324], dtype=torch.float64),
        "integers": torch.tensor(7),
        "flags": torch.tensor([True, False]),
        "empty": torch.zeros(0, 3),
        "random": torch.random.get_rng_state(),
        "half": torch.randn(3).bfloat16(),
    }
    header = {
        "step": 12345678901234567,
        "best": float("inf"),
        "loss": 0.1 + 0.2,
        "name": 'Å "quoted"',
        "plan": [1, [2]],
    }
    save_state(tmp_path / "s.safetensors", tensors, header)
    found, data = load_state(tmp_path / "s.safetensors")
    assert data == header
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype and found[name].shape == tensor.shape
        assert torch.equal(
            found[name].view(torch.uint8) if name == "double" else found[name],
            tensor.view(torch.uint8) if name == "double" else tensor,
        ), name


def test_a_saved_file_is_plain_safetensors(tmp_path: Path) -> None:
    """Any program that reads safetensors can read the weights."""
    ours = potential()
    save_model(ours, tmp_path / "m.safetensors")
    assert_same_bits(safetensors.torch.load_file(tmp_path / "m.safetensors"), ours.state_dict())


def test_a_header_must_be_plain_data(tmp_path: Path) -> None:
    """Nothing that would need a pickle is accepted, and nothing is written."""
    with pytest.raises(TypeError):
        save_state(tmp_path / "s.safetensors", {}, {"object": object()})
    assert list(tmp_path.iterdir()) == []


def test_statistics_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    """A model that could only answer NaN is an error when it is saved, not when it is used."""
    with pytest.raises(CheckpointError, match="NaN"):
        save_model(potential(Statistics((1, 8), (float("nan"), 0.0), (1.0, 1.0), 12.0)), tmp_path / "m.safetensors")
    assert list(tmp_path.iterdir()) == []


class Payload:
    """A pickle of this writes a file when it is opened."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.proof), "w")


def wrong_files(proof: Path) -> dict[str, bytes]:
    """Files of other kinds; the pickles would create `proof` if anything ran them."""
    payload = pickle.dumps(Payload(proof))
    archive, saved = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("../../escaped", "x")
    torch.save({"weights": torch.zeros(3), "payload": Payload(proof)}, saved)
    valid = safetensors.torch.save({"a": torch.zeros(2)}, {"format": "pt"})
    deep = b"[" * 100_000
    return {
        "pickle": payload,
        **{f"pickle protocol {n}": pickle.dumps(Payload(proof), protocol=n) for n in range(6)},
        "zip": archive.getvalue(),
        "torch.save": saved.getvalue(),
        "text": b"# a YAML file\nmodel: mlanet\nlayers: 3\n",
        "yaml tag": b"!!python/object/apply:os.system ['true']\n",
        "empty": b"",
        "three bytes": b"abc",
        "huge length": (2**63).to_bytes(8, "little") + b"{}" * 20,
        "all ones": b"\xff" * 64,
        "length one beyond": (57).to_bytes(8, "little") + b" " * 56,
        "zeros": bytes(200),
        "other safetensors": valid,
        "deep json": len(deep).to_bytes(8, "little") + deep,
        "json array": (16).to_bytes(8, "little") + b"[1,2,3]         " + bytes(64),
    }


@pytest.mark.parametrize("forced", [False, True])
@pytest.mark.parametrize("load", [load_model, load_state, read_model_header])
def test_files_of_other_kinds_are_refused_and_nothing_runs(
    tmp_path: Path, load: object, forced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pickles, archives, texts, impossible lengths: an error names file and expectation, and no payload runs."""
    if forced:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    proof = tmp_path / "it_ran"
    for name, content in wrong_files(proof).items():
        path = tmp_path / "suspect.safetensors"
        path.write_bytes(content)
        with pytest.raises(
            CheckpointError, match=r"suspect\.safetensors.*expected a (model file|training state)"
        ) as caught:
            load(path)  # type: ignore[operator]
        assert not proof.exists(), name
        assert "pickle" not in name or "pickle" in str(caught.value) or "damaged" in str(caught.value), name


def test_signed_files_with_a_nonsense_content_are_refused(tmp_path: Path) -> None:
    """A right digest does not make a header right: every field is checked, and the message says which is wrong."""
    save_model(potential(), tmp_path / "m.safetensors")
    good = json.loads(_metadata(tmp_path / "m.safetensors")["header"])
    weights = safetensors.torch.load_file(tmp_path / "m.safetensors")
    wrong: list[tuple[dict[str, object], str]] = [
        ({**good, "schema_version": SCHEMA_VERSION + 1}, "newer mlanet"),
        ({**good, "config": {**good["config"], "leyers": 3}}, "did you mean 'layers'"),
        ({**good, "config": {**good["config"], "model": "other"}}, "other"),
        ({**good, "config": {**good["config"], "layers": -1}}, "layers"),
        ({**good, "config": {**good["config"], "layers": 2}}, "do not belong together"),
        ({**good, "statistics": {**good["statistics"], "species": [8, 1]}}, "ascending"),
        ({**good, "statistics": {**good["statistics"], "species": [1]}}, "one entry each"),
        ({**good, "statistics": {**good["statistics"], "scale": "big"}}, "scale"),
        ({**good, "surprise": 1}, "surprise"),
        ({"schema_version": SCHEMA_VERSION}, "version"),
        ([], "header"),  # type: ignore[list-item]
    ]
    for header, message in wrong:
        _sign(tmp_path / "w.safetensors", "model", json.dumps(header), weights)
        with pytest.raises(CheckpointError, match=message) as caught:
            load_model(tmp_path / "w.safetensors")
        assert "w.safetensors" in str(caught.value)
    _sign(
        tmp_path / "w.safetensors", "model", json.dumps(good), {k: v for k, v in weights.items() if "sender" not in k}
    )
    with pytest.raises(CheckpointError, match="sender"):
        load_model(tmp_path / "w.safetensors")
    _sign(tmp_path / "w.safetensors", "training state", "[1]", weights)
    with pytest.raises(CheckpointError, match="header"):
        load_state(tmp_path / "w.safetensors")


def test_a_file_from_before_a_setting_means_its_default(tmp_path: Path) -> None:
    """`gate_channels` came later: without it each channel has a gate; with it the weights are fewer."""
    ours = potential()
    save_model(ours, tmp_path / "m.safetensors")
    header = json.loads(_metadata(tmp_path / "m.safetensors")["header"])
    assert header["config"].pop("gate_channels") == 1
    _sign(tmp_path / "old.safetensors", "model", json.dumps(header), dict(ours.state_dict()))
    theirs = load_model(tmp_path / "old.safetensors")
    assert theirs.model.config == CONFIG
    assert_same_bits(ours.state_dict(), theirs.state_dict())
    header["config"]["gate_channels"] = 4
    _sign(tmp_path / "other.safetensors", "model", json.dumps(header), dict(ours.state_dict()))
    with pytest.raises(CheckpointError, match="gates"):
        load_model(tmp_path / "other.safetensors")


def test_the_packaged_model_stays_what_it_is() -> None:
    """Its energies, eV in double precision, are those of the day it was written."""
    potential = load_model(model_path("elemental"), dtype=torch.float64)
    assert potential.model.config.pooling_bound == 6.0 and potential.model.config.repulsion == "zbl"
    examples = Path(mlanet.__file__).parent / "examples"
    wanted = {"si.cif": -42.89920268479073, "li.POSCAR": -30.085876445948298, "mo.extxyz": -173.3448207271394}
    for name, energy in wanted.items():
        graph = to_graph(read(examples / name), potential.cutoff)
        assert float(potential(graph).energy[0]) == pytest.approx(energy, abs=1e-9)


def test_a_model_is_not_a_training_state(tmp_path: Path) -> None:
    """Taking one for the other is an error that says what the file is."""
    save_model(potential(), tmp_path / "m.safetensors")
    save_state(tmp_path / "s.safetensors", {"a": torch.zeros(1)}, {})
    with pytest.raises(CheckpointError, match=r"is a model file.*expected a training state"):
        load_state(tmp_path / "m.safetensors")
    with pytest.raises(CheckpointError, match=r"is a training state.*expected a model file"):
        load_model(tmp_path / "s.safetensors")


def test_names_and_paths_of_models(tmp_path: Path) -> None:
    """Packaged names and paths are found; anything else is an error that says what there is."""
    save_model(potential(), tmp_path / "mine.safetensors")
    assert model_path(tmp_path / "mine.safetensors") == tmp_path / "mine.safetensors"
    for name in packaged_models():
        assert model_path(name).is_file()
    with pytest.raises(CheckpointError, match=r"no model 'no_such'.*packaged models"):
        model_path("no_such")
    with pytest.raises(CheckpointError, match="no such file"):
        model_path(tmp_path / "absent.safetensors")
    with pytest.raises(CheckpointError, match="a folder"):
        model_path(tmp_path)
    with pytest.raises(CheckpointError, match="No such file"):
        load_model(tmp_path / "absent.safetensors")
    with pytest.raises(CheckpointError, match="directory"):
        load_model(tmp_path)
    assert torch.equal(mlanet.load(tmp_path / "mine.safetensors").references, potential().references)


def test_packaged_models_go_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that ships with the package is found by its name everywhere; a near miss is suggested."""
    monkeypatch.setattr("mlanet.model_files._packaged_folder", lambda: tmp_path)
    save_model(potential(), tmp_path / "water_l1.safetensors")
    assert packaged_models() == ["water_l1"]
    assert mlanet.load("water_l1").species == (1, 8)
    assert mlanet.MLANetCalculator("water_l1", dtype="float64").parameters["model"] == "water_l1"
    with pytest.raises(CheckpointError, match="did you mean 'water_l1'"):
        model_path("water_l2")


def test_copies_are_exact_and_their_own(tmp_path: Path) -> None:
    """`copied` keeps bits, type and statistics, shares nothing, and does not disturb the random state."""
    ours = potential().double().train()
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    theirs = copied(ours)
    assert torch.equal(torch.rand(2), expected)
    assert_same_bits(ours.state_dict(), theirs.state_dict())
    assert ours.training and not theirs.training and theirs.statistics == ours.statistics
    pointers = {one.data_ptr() for one in ours.state_dict().values()}
    assert not pointers & {one.data_ptr() for one in theirs.state_dict().values()}


def test_a_device_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    """Not a bug of torch's but a question of what this machine has."""
    save_model(potential(), tmp_path / "m.safetensors")
    for word in ("quantum", "gpu", "cuda:x"):
        with pytest.raises(ConfigError, match=f"device '{word}'.*cpu, cuda and cuda:N"):
            load_model(tmp_path / "m.safetensors", device=word)
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="device 'cuda'"):
            load_model(tmp_path / "m.safetensors", device="cuda")


def _metadata(path: Path) -> dict[str, str]:
    data = path.read_bytes()
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]


def _sign(path: Path, kind: str, header: str, tensors: dict[str, torch.Tensor]) -> None:
    """A file with a right digest around any content, as a careful forger would make it."""
    import hashlib

    blank = safetensors.torch.save(tensors, {"mlanet": kind, "header": header, "sha256": "0" * 64})
    path.write_bytes(blank.replace(b"0" * 64, hashlib.sha256(blank).hexdigest().encode(), 1))


def test_a_copy_of_a_wider_model_says_the_same_to_the_last_bit() -> None:
    """Its constants are those of float64 too, whatever precision the weights had."""
    from ase.build import bulk

    from mlanet.checkpoint import copied, load_model, model_path, moved
    from mlanet.data.atoms import to_graph

    wide = moved(load_model(model_path("universal")), torch.float64, "cpu")
    graph = to_graph(bulk("Si"), wide.cutoff)
    assert torch.equal(copied(wide)(graph).energy, wide(graph).energy)
