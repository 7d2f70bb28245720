"""Text that is no configuration, fills memory, or acts on a terminal: one line and a status, whatever it holds."""

from __future__ import annotations

import gzip
import io
import lzma
import re
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase.io import write

from mlanet.checkpoint import save_model
from mlanet.cli.main import main
from mlanet.config import parse, read_yaml, read_yaml_text, with_overrides
from mlanet.data import bounded_text
from mlanet.data.read import read_frames
from mlanet.errors import ConfigError, DataError
from mlanet.memory import forget_highest_resident, highest_resident, resident
from mlanet.plain import plain
from mlanet.training.config import TrainConfig

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)
BAD_YAML = {
    "integer of 5000 digits": ("steps: " + "9" * 5000, "line 1.*int"),
    "hexadecimal that is none": ("steps: !!int abc", "line 1: 'abc' cannot be read as int"),
    "tagged float": ("\nsteps: !!float abc", "line 2: 'abc' cannot be read as float"),
    "tagged date": ("steps: !!timestamp abc", "line 1: 'abc' cannot be read as timestamp"),
    "tagged bytes": ("steps: !!binary é", "line 1"),
    "list as key": ("? [a, b]\n: c", "line 1: a key must be a word"),
    "mapping as key": ("? {a: b}\n: c", "line 1: a key must be a word"),
    "deep lists": ("model: " + "[" * 50_000, "more than 32 lists or mappings"),
    "deep mappings": ("model: " + "{a: " * 5_000, "more than 32 lists or mappings"),
    "deep lists in blocks": ("- " * 5000, "more than 32"),
    "aliases of aliases": (BOMB, "more than 10000 values"),
    "merges of merges": (
        BOMB.replace("[x,x,x,x,x,x,x,x,x]", "{k: 1}").replace("[", "{<<: [").replace("]", "]}"),
        "values",
    ),
    "alias of itself": ("a: &a [*a]", "contains itself"),
    "alias of nothing": ("a: *b", "not valid YAML"),
    "Python object": ("a: !!python/object/apply:os.system [ls]", "not valid YAML"),
    "control character": ("a: \x00", "not valid YAML"),
    "many values": ("[" + "1," * 30_000 + "]", "more than 10000 values"),
    "much text": ("a: " + "x" * 300_000, "at most 262144"),
}


@pytest.mark.parametrize("case", BAD_YAML)
def test_yaml_that_is_no_configuration(case: str) -> None:
    """An error that names the file and the line, soon."""
    text, words = BAD_YAML[case]
    start = time.monotonic()
    with pytest.raises(ConfigError, match=f"(?s)my.yaml: .*{words}") as found:
        read_yaml_text(text, "my.yaml")
    assert len(str(found.value)) < 600
    assert not re.search("NoneType|attribute|sys\\.|literal for", str(found.value))  # words of Python
    assert time.monotonic() - start < 20


def test_dates_are_text_and_anchors_are_kept() -> None:
    """A folder may be called after a day, even one that does not exist; a part may be used twice."""
    found = read_yaml_text(
        "run: {folder: 2026-13-45, other: 2026-01-01}\na: &x {k: 1}\nb: *x\nc: {<<: *x, l: 2}", "here"
    )
    assert found["run"] == {"folder": "2026-13-45", "other": "2026-01-01"}
    assert found["b"] == {"k": 1} and found["c"] == {"k": 1, "l": 2}


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf", "1e400", str(2**70), f"-{2**70}", "!!float 1e999"])
@pytest.mark.parametrize("key", ["optimizer.lr", "budget.steps", "model.cutoff", "data.train_limit", "references.Cu"])
def test_numbers_of_a_configuration_are_finite(key: str, value: str) -> None:
    """NaN, infinity and integers beyond 63 bits are refused, whatever the key."""
    base = {"data": {"train": ["x"]}, "budget": {"steps": 1}, "run": {"folder": "x"}, "references": {"Cu": 1.0}}
    with pytest.raises(ConfigError):
        parse(with_overrides(base, [f"{key}={value}"]), TrainConfig, "here")


def test_a_configuration_is_read_no_further_than_it_goes(tmp_path: Path) -> None:
    """A device that never ends, bytes that are no text, and a byte-order mark."""
    start = time.monotonic()
    with pytest.raises(ConfigError):
        read_yaml("/dev/zero")
    assert time.monotonic() - start < 20
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9")
    with pytest.raises(ConfigError, match="latin.yaml"):
        read_yaml(tmp_path / "latin.yaml")
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbfa: 1")
    assert read_yaml(tmp_path / "bom.yaml") == {"a": 1}
    assert yaml.safe_load("a: 1") == {"a": 1}


def _risen(run) -> int:
    forget_highest_resident()
    before = resident()
    run()
    return highest_resident() - before


BOMBS = {
    "one line": lambda: b"a" * 2**25,
    "blank lines": lambda: b"\n" * 2**25,
    "one comment": lambda: b"1\n" + b"x" * 2**25,
    "one row": lambda: b"1\n\nCu 0 0 " + b"0" * 2**25,
}


@pytest.mark.parametrize("case", BOMBS)
def test_small_files_that_expand_are_refused(tmp_path: Path, case: str) -> None:
    """Some kilobytes that expand to 32 MiB of nothing: an error, soon, and little memory."""
    path = tmp_path / f"bomb.extxyz.{'xz' if case == 'one line' else 'gz'}"
    compress = lzma.compress if case == "one line" else gzip.compress
    path.write_bytes(compress(BOMBS[case]()))
    assert path.stat().st_size < 2**17

    def read() -> None:
        with pytest.raises(DataError, match="bomb.extxyz"):
            list(read_frames(path))

    assert _risen(read) < 24 * 2**20


def test_compressed_files_of_other_formats_have_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What must be read as a whole is read up to a bound."""
    monkeypatch.setattr(bounded_text, "MOST_DECOMPRESSED", 2**16)
    with gzip.open(tmp_path / "a.cif.gz", "wb") as file:
        file.write(b"data_a\n" + b"# nothing\n" * 2**14)
    with pytest.raises(DataError, match="expands to more than"):
        list(read_frames(tmp_path / "a.cif.gz"))


@pytest.mark.parametrize("count", ["1000000000", "9" * 400, "2 999999999"])
@pytest.mark.parametrize("version", [4, 5])
def test_files_cannot_promise_atoms_that_they_do_not_hold(tmp_path: Path, count: str, version: int) -> None:
    """ASE would make room for them first."""
    symbols = "Cu Al\n" if version == 5 else ""
    (tmp_path / "POSCAR").write_text(f"Cu Al\n1.0\n4 0 0\n0 4 0\n0 0 4\n{symbols}{count}\nDirect\n0 0 0\n0.5 0.5 0.5\n")
    with pytest.raises(DataError, match="promises"):
        list(read_frames(tmp_path / "POSCAR"))
    (tmp_path / "a.extxyz").write_text(f"{count.split()[-1]}\n\nCu 0 0 0\n")
    with pytest.raises(DataError, match="atoms"):
        list(read_frames(tmp_path / "a.extxyz"))


def _streams(monkeypatch: pytest.MonkeyPatch, encoding: str) -> list[io.TextIOWrapper]:
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True) for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    return streams


@pytest.fixture
def crystal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model and a structure whose names hold what terminals, pictures and shells take as orders."""
    import torch
    from ase.build import bulk

    from mlanet.models import ModelConfig
    from mlanet.potential import Potential
    from mlanet.statistics import Statistics

    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    config = parse({"model": "leignn", "channels": 8, "layers": 1}, ModelConfig, "test")
    save_model(Potential.build(config, Statistics((29,), (0.0,), (1.0,), 12.0)), "m.safetensors", {"data": "\x1b[31m"})
    path = Path("a$b$_{[red]}\x1b[31m\x9b2J\u202e.extxyz")
    write(path, bulk("Cu"), format="extxyz")
    return path


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_any_terminal_shows_any_name(crystal: Path, encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables, notes, errors, JSON and pictures, of a name full of orders, on terminals without UTF-8."""
    picture = ["--picture", "a.png"] if encoding == "ascii" else []
    for words, status in (
        (["predict", crystal, "-m", "m.safetensors", "--csv", "a.csv", *picture], 0),
        (["predict", crystal, "-m", "m.safetensors", "--json"], 0),
        (["info", "m.safetensors"], 0),
        (["predict", str(crystal) + "2", "-m", "m.safetensors"], 2),
        (["predict", b"caf\xe9.cif".decode(errors="surrogateescape"), "-m", "m.safetensors"], 2),
    ):
        out, err = _streams(monkeypatch, encoding)
        found = main([str(one) for one in words])
        said = [stream.buffer.getvalue().decode(encoding) for stream in (out, err)]  # type: ignore[attr-defined]
        assert found == status, said
        assert not any(one in text for text in said for one in "\x1b\x9b\u202e"), said
        assert status == 0 or said[1].count("\n") == 1
    assert not picture or Path("a.png").stat().st_size > 1000


def test_errors_act_on_no_terminal() -> None:
    """What an error quotes is written out, wherever the error ends: in a table, a log or a page."""
    assert str(DataError("red\x1b[31m")) == r"red\x1b[31m"
    assert plain("Å, …\tand\nso on") == "Å, …\tand\nso on"
    assert np.all([plain(chr(one)) != chr(one) for one in (0, 7, 8, 11, 12, 13, 27, 127, 0x9B, 0x202E)])
