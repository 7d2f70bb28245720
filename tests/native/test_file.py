"""Native model files: what is written is read; what is damaged, by accident or on purpose, is refused."""

from __future__ import annotations

import contextlib
import json
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from native_systems import potential

from mlanet.domain import Domain
from mlanet.errors import CheckpointError, ConfigError, GeometryError
from mlanet.native import Engine
from mlanet.native.engine import SOURCES
from mlanet.native.export import export_native, native_bytes
from mlanet.native.file import sealed

SMALL = {
    "irreps": "4x0e+4x1o",
    "layers": 1,
    "heads": 2,
    "key_dim": 2,
    "hidden": 4,
    "gate_channels": 1,
    "combine": "product",
}


@pytest.fixture(scope="module")
def whole() -> bytes:
    """A small model with most of what there can be."""
    return native_bytes(potential("mlanet_l1", **SMALL, message="full", bonded="learned", bond_functions=2))


@pytest.fixture(scope="module")
def light() -> bytes:
    """A small LEIGNN that knows its limits."""
    subject, draw = potential("leignn_64", channels=4, layers=2, filter_bias="raw"), np.random.default_rng(0)
    shapes = {"mean": (3, 2), "whiten": (3, 2, 2), "reach": 3, "coordination": (3, 2), "rigidity": (2, 2)}
    shapes |= {"energy": 3, "forces": 7, "stress": 3}
    subject.domain = Domain(**{name: draw.random(shape) for name, shape in shapes.items()})
    return native_bytes(subject)


def parts(data: bytes) -> tuple[dict[str, Any], int]:
    """The header, and where it ends."""
    (length,) = struct.unpack_from("<Q", data, 16)
    return json.loads(data[24 : 24 + length]), 24 + length


def changed(data: bytes, *without: str, **settings: Any) -> bytes:
    """The same with other settings in its header, everything else in place; checksum and lengths are right."""
    header, end = parts(data)
    header["settings"] |= settings
    for name in without:
        del header["settings"][name]
    text = json.dumps(header).encode()
    tensors = data[-(-end // 64) * 64 :]
    return sealed(data[:16] + struct.pack("<Q", len(text)) + text + bytes(-(24 + len(text)) % 64) + tensors)


def answers(data: bytes) -> bool:
    """Whether the file opens; then it has to compute as well."""
    try:
        engine = Engine(data)
    except (CheckpointError, ConfigError):
        return False
    vector = [0.3, 0.4, 1.0]
    with contextlib.suppress(GeometryError):
        engine.compute([0, 0], [0, 1, 2], [1, 0], [vector, [-one for one in vector]], limits=True)
    return True


def test_a_file_is_written_whole_and_read(tmp_path: Path, whole: bytes) -> None:
    """By path; the header says what it is."""
    subject = potential("mlanet_l1", **SMALL)
    export_native(subject, tmp_path / "one.mlanet", "0123")
    engine = Engine(tmp_path / "one.mlanet")
    assert (engine.cutoff, engine.species, engine.header["digest"]) == (5.0, (1, 6, 8), "0123")
    assert [one.name for one in tmp_path.iterdir()] == ["one.mlanet"]
    with pytest.raises(CheckpointError, match=r"none\.mlanet: No such file"):
        Engine(tmp_path / "none.mlanet")
    with pytest.raises(CheckpointError, match="cannot be written"):
        export_native(subject, tmp_path)
    with pytest.raises(ConfigError, match="precision 'half'"):
        Engine(whole, precision="half")


def version(data: bytes) -> int:
    """Of a file."""
    return int(struct.unpack_from("<I", data, 8)[0])


def test_files_from_before_a_setting_are_read(whole: bytes) -> None:
    """They name none of what came later, and answer what they did."""
    old = changed(whole, "attention", "attention_envelope", "output_gate")
    told = [Engine(one).compute([0, 1], [0, 1, 2], [1, 0], [[0, 0, 1.2], [0, 0, -1.2]]).energy for one in (whole, old)]
    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({}, 1), ({"attention": "none"}, 1), ({"attention_envelope": "once"}, 2), ({"output_gate": "head"}, 2)],
)
def test_older_engines_refuse_what_they_would_misread(settings: dict[str, Any], expected: int) -> None:
    """A file has a later version where its settings would be passed over; one of a version to come is refused."""
    data = native_bytes(potential("mlanet_l1", **SMALL | settings))
    assert version(data) == expected
    for wrong in (0, 3):
        with pytest.raises(CheckpointError, match=f"version {wrong}, this program reads 1 to 2"):
            Engine(sealed(data[:8] + struct.pack("<I", wrong) + data[12:]))


def test_every_flipped_byte_is_found(whole: bytes) -> None:
    """Whatever byte it is."""
    for place in range(0, len(whole), 1 + len(whole) // 60):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        with pytest.raises(CheckpointError):
            Engine(bytes(damaged))


def test_cut_files_are_refused(whole: bytes) -> None:
    """At any length, with a checksum that fits too."""
    for size in range(0, len(whole) - 64, 1 + len(whole) // 60):
        for data in (whole[:size], sealed(whole[:size]) if size >= 24 else b""):
            with pytest.raises(CheckpointError):
                Engine(data)


@pytest.mark.parametrize("kind", ["whole", "light"])
def test_hostile_headers_do_not_crash(kind: str, request: pytest.FixtureRequest) -> None:
    """Bytes of the header changed, with a checksum that fits: refused, or a model that computes."""
    whole = request.getfixturevalue(kind)
    _, end = parts(whole)
    degree = whole.find(b'"l_max": ')  # another one would be compiled first
    found = set()
    for place in set(range(0, end, 1 + end // 150)) - set(range(degree, degree + 11)):
        damaged = bytearray(whole)
        damaged[place] ^= (0x01, 0x10, 0x80)[place % 3]
        found.add(answers(sealed(bytes(damaged))))
    assert found == {True, False}


@pytest.mark.parametrize(
    "settings",
    [
        {"channels": 8},
        {"channels": 4096, "heads": 1024},
        {"channels": 1e30},
        {"channels": -4},
        {"channels": 4.5},
        {"layers": 2},
        {"layers": 2**62},
        {"heads": 3},
        {"hidden": 8192},
        {"radial_hidden": [8192] * 3},
        {"radial_hidden": [1] * 1000},
        {"radial_functions": 512},
        {"message": "heavy"},
        {"combine": "sum"},
        {"l_max": 7},
        {"mean_neighbors": 0},
        {"pooling_bound": -1.0},
        {"gate_channels": 3},
        {"bond_functions": None},
        {"attention": "fctp"},
        {"attention_envelope": "thrice"},
        {"output_gate": "head"},
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_refused(whole: bytes, settings: dict[str, Any]) -> None:
    """Huge counts, wrong shapes, wrong kinds: by name, before anything is built."""
    assert answers(changed(whole))
    with pytest.raises(CheckpointError):
        Engine(changed(whole, **settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"channels": 8},
        {"channels": 3},
        {"channels": 2**62},
        {"layers": 1},
        {"layers": 0},
        {"radial_functions": 1},
        {"radial_functions": 512},
        {"radial_basis": "gaussian"},
        {"filter_bias": "none"},
        {"filter_bias": 1},
        {"update": "painn"},
        {"invariant": "soft or norm"},
        {"scaling": None},
        {"wall": 1},
    ],
    ids=str,
)
def test_settings_of_leignn_that_do_not_fit_are_refused(light: bytes, settings: dict[str, Any]) -> None:
    """As above."""
    assert answers(changed(light))
    with pytest.raises(CheckpointError):
        Engine(changed(light, **settings))


@pytest.mark.parametrize("kind", ["gnn", "MLANet", "", None, 3])
def test_models_of_other_kinds_are_refused(whole: bytes, kind: object) -> None:
    """By name, before anything is compiled for them."""
    header, end = parts(whole)
    text = json.dumps(header | {"model": kind}).encode()
    data = whole[:16] + struct.pack("<Q", len(text)) + text + bytes(-(24 + len(text)) % 64)
    with pytest.raises(CheckpointError, match="of kind"):
        Engine(sealed(data + whole[-(-end // 64) * 64 :]))


def test_a_file_of_the_other_kind_is_refused(whole: bytes, light: bytes) -> None:
    """One that calls itself what it is not."""
    for data, kind in ((whole, "leignn"), (light, "mlanet")):
        header, end = parts(data)
        text = json.dumps(header | {"model": kind, "settings": {"l_max": 1} | header["settings"]}).encode()
        made = data[:16] + struct.pack("<Q", len(text)) + text + bytes(-(24 + len(text)) % 64)
        with pytest.raises(CheckpointError):
            Engine(sealed(made + data[-(-end // 64) * 64 :]))


def test_tensors_that_lie_are_refused(whole: bytes) -> None:
    """Outside of the file, not aligned, with products of axes that overflow, of unknown types, twice; NaN in them."""
    header, end = parts(whole)
    first = next(k for k, one in enumerate(header["tensors"]) if one["name"] == "sender")
    lies: list[dict[str, Any]] = [
        {"offset": 2**40},
        {"offset": 8},
        {"offset": -64},
        {"shape": [2**31, 2**31, 2**31, 2**31]},
        {"shape": [3, -4]},
        {"shape": [1] * 9},
        {"shape": [4, 3]},
        {"type": "float16"},
        {"type": "int32"},
        {"name": "embedding"},
        {"name": None},
    ]
    for lie in lies:
        tensors = [one | lie if k == first else one for k, one in enumerate(header["tensors"])]
        text = json.dumps({**header, "tensors": tensors}).encode()
        data = whole[:16] + struct.pack("<Q", len(text)) + text + bytes(-(24 + len(text)) % 64)
        with pytest.raises(CheckpointError):
            Engine(sealed(data + whole[-(-end // 64) * 64 :]))
    place = -(-end // 64) * 64 + header["tensors"][first]["offset"]
    with pytest.raises(CheckpointError, match="'sender' holds NaN or infinity"):
        Engine(sealed(whole[:place] + np.float64(np.nan).tobytes() + whole[place + 8 :]))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("mean", [2, 2]),
        ("whiten", [2, 2, 2]),
        ("whiten", [1, 2, 4]),
        ("whiten", []),
        ("reach", [2]),
        ("rigidity", [4]),
        ("energy", [2]),
        ("forces", [6]),
        ("forces", None),
    ],
)
def test_limits_of_other_sizes_are_refused(light: bytes, name: str, shape: list[int] | None) -> None:
    """Each tensor, in a shape that is too small for what would be read of it, or not there."""
    header, end = parts(light)
    words = {"name": "limits.other"} if shape is None else {"shape": shape}
    tensors = [one | words if one["name"] == f"limits.{name}" else one for one in header["tensors"]]
    text = json.dumps({**header, "tensors": tensors}).encode()
    data = light[:16] + struct.pack("<Q", len(text)) + text + bytes(-(24 + len(text)) % 64)
    assert Engine(light).compute([0], [0, 0], [], [], limits=True).forces_std is not None
    with pytest.raises(CheckpointError, match=r"tensor 'limits\."):
        Engine(sealed(data + light[-(-end // 64) * 64 :]))


@pytest.mark.parametrize(
    ("kind", "only"),
    [
        pytest.param("whole", "MLANet<double,1>", marks=pytest.mark.long),
        pytest.param("light", "LEIGNN<double>", marks=pytest.mark.slow),
    ],
)
def test_hostile_files_under_sanitizers(tmp_path: Path, kind: str, only: str, request: pytest.FixtureRequest) -> None:
    """No access out of bounds and nothing undefined, whatever the file says."""
    whole = request.getfixturevalue(kind)
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    (tmp_path / "one.mlanet").write_bytes(whole)
    flags = ["-std=c++17", "-O1", "-g", "-march=native", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    macros = [f"-DMLANET_ONLY={only}", f"-I{SOURCES}"]
    source = str(Path(__file__).parent / "fuzz.cpp")
    subprocess.run([compiler, *flags, *macros, source, "-o", str(tmp_path / "fuzz")], check=True)
    done = subprocess.run(
        [tmp_path / "fuzz", tmp_path / "one.mlanet", "3"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
