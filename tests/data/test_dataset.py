"""Files become samples; a label that is nowhere is an error; the cache is exact, keyed by content, and checked."""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

import mlanet.data.dataset as dataset
from mlanet.data.atoms import LabelKeys, to_graph
from mlanet.data.dataset import load_samples
from mlanet.data.samples import Sample
from mlanet.errors import ConfigError, DataError, MissingLabelError, OutputError


def same(a: Sample, b: Sample) -> bool:
    """Bit for bit the same sample."""
    pairs = [(getattr(a.graph, name), getattr(b.graph, name)) for name in vars(a.graph)]
    pairs += [(getattr(a.labels, name), getattr(b.labels, name)) for name in vars(a.labels)]
    for x, y in pairs:
        if isinstance(x, torch.Tensor):
            if x.dtype != y.dtype or not torch.equal(x.nan_to_num(7e77), y.nan_to_num(7e77)):
                return False
        elif x != y:
            return False
    return a.where == b.where and a.group == b.group


@pytest.fixture
def path(copper: list[Atoms], write: Callable[..., Path]) -> Path:
    """Twelve frames: two trajectories, stress on half of them, total charges, one molecule with atomic charges."""
    frames = [atoms.copy() for atoms in copper[:11]]
    for k, (frame, source) in enumerate(zip(frames, copper, strict=False)):
        results = dict(source.calc.results)
        if k % 2:
            results.pop("stress")
        frame.calc = SinglePointCalculator(frame, **results)
        frame.info |= {"traj": f"t{k % 2}", "total_charge": k % 3 - 1}
    water = molecule("H2O")
    water.arrays["atomic_charges"] = np.array([-0.8, 0.4, 0.4])
    water.info["REF_energy"] = -14.0
    return write([*frames, water])


def test_samples(path: Path) -> None:
    """Order, place, group and partial labels are kept."""
    samples = load_samples(path, 4.0, require=("energy", "forces", "stress"))
    assert [sample.where for sample in samples] == [f"{path}, frame {k}" for k in range(12)]
    assert [s.group for s in samples[:3]] == [f"{path}:t0", f"{path}:t1", f"{path}:t0"]
    assert samples[11].group == str(path) and samples[11].labels.forces.isnan().all()
    assert [bool(s.labels.stress.isfinite().all()) for s in samples] == [k % 2 == 0 and k < 11 for k in range(12)]
    assert [float(s.graph.charge) for s in samples[:3]] == [-1.0, 0.0, 1.0]


def test_several_files_and_progress(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Files are joined in order; a progress bar writes nothing to standard output."""
    samples = load_samples([path, path], 4.0, progress=True)
    assert len(samples) == 24 and same(samples[0], samples[12])
    assert capfd.readouterr().out == ""


def test_label_that_is_nowhere(path: Path) -> None:
    """A required or named label in no frame is an error that lists what the files do hold."""
    with pytest.raises(MissingLabelError, match=r"no frame has a label for forces \(sought under 'dft_f'\)") as caught:
        load_samples(path, 4.0, LabelKeys(forces="dft_f"))
    assert (
        "results:forces" in str(caught.value) and "REF_energy" in str(caught.value) and str(path) in str(caught.value)
    )
    with pytest.raises(MissingLabelError, match="stress.*'sigma'"):
        load_samples(path, 4.0, LabelKeys(stress="sigma"), require=("energy",))
    with pytest.raises(ConfigError, match="'magmom'"):
        load_samples(path, 4.0, require=("magmom",))
    with pytest.raises(DataError, match="no data files"):
        load_samples([], 4.0)


def test_stress_of_molecules_is_explained(write: Callable[..., Path]) -> None:
    """Asking molecules for stress says why there is none."""
    atoms = molecule("H2O")
    atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=np.zeros((3, 3)))
    with pytest.raises(MissingLabelError, match="no frame is periodic"):
        load_samples(write([atoms]), 4.0, require=("stress",))


def test_cache_is_exact_and_used(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second load reads no structures and gives the same samples, bit for bit."""
    cache = tmp_path / "cache"
    fresh = load_samples(path, 4.0)
    assert all(map(same, fresh, load_samples(path, 4.0, cache=cache)))
    monkeypatch.setattr(dataset, "read_frames", lambda path: pytest.fail("the cache was not used"))
    cached = load_samples(path, 4.0, cache=cache)
    assert len(cached) == 12 and all(map(same, fresh, cached))


def test_missing_label_is_told_from_the_cache(write: Callable[..., Path], tmp_path: Path) -> None:
    """A cached file complains about missing labels as a fresh one does, with the same list of keys."""
    path = write([Atoms("H", info={"REF_energy": -13.6})])
    messages = []
    for _ in range(2):
        with pytest.raises(MissingLabelError, match="no frame has a label for forces.*REF_energy") as caught:
            load_samples(path, 4.0, cache=tmp_path / "cache")
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_cache_follows_content(path: Path, tmp_path: Path) -> None:
    """Bytes, cutoff and keys make the key; the file's name and place do not, but errors name the file as given."""
    cache = tmp_path / "cache"
    load_samples(path, 4.0, cache=cache)
    assert len(list(cache.iterdir())) == 1
    copy = tmp_path / "other.extxyz"
    shutil.copy(path, copy)
    moved = load_samples(copy, 4.0, cache=cache)
    assert len(list(cache.iterdir())) == 1
    assert moved[0].where == f"{copy}, frame 0" and moved[0].group == f"{copy}:t0" and moved[11].group == str(copy)
    load_samples(path, 4.5, cache=cache)
    load_samples(path, 4.0, LabelKeys(energy="energy"), cache=cache)
    assert len(list(cache.iterdir())) == 3
    text = path.read_text()
    path.write_text(text.replace("total_charge=-1", "total_charge=-2"))
    changed = load_samples(path, 4.0, cache=cache)
    assert float(changed[0].graph.charge) == -2.0 and len(list(cache.iterdir())) == 4


def test_damaged_cache_is_rebuilt(path: Path, tmp_path: Path) -> None:
    """A flipped bit anywhere, a truncation or nonsense: noticed, told, and made anew; wrong data are never used."""
    cache = tmp_path / "cache"
    fresh = load_samples(path, 4.0, cache=cache)
    (stored,) = cache.iterdir()
    good = stored.read_bytes()
    places = [0, 3, 9, 60, *np.linspace(100, len(good) - 1, 60).astype(int).tolist()]
    damaged = [good[:k] + bytes([good[k] ^ (1 << (k % 8))]) + good[k + 1 :] for k in places]
    damaged += [b"", b"x", good[:5], good[: len(good) // 2], good[:-1], good + b"x"]
    for content in damaged:
        stored.write_bytes(content)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            again = load_samples(path, 4.0, cache=cache)
        assert all(map(same, fresh, again))
        assert any("damaged cache" in str(w.message) for w in caught)
        assert stored.read_bytes() == good


def test_cache_that_cannot_be_written(path: Path, tmp_path: Path) -> None:
    """An unwritable cache folder is a typed error, and leaves nothing half-written."""
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(OutputError, match="cache cannot be written"):
        load_samples(path, 4.0, cache=blocked)


def test_cache_of_structures_without_edges(write: Callable[..., Path], tmp_path: Path) -> None:
    """Isolated atoms survive the cache."""
    atoms = Atoms("H", info={"REF_energy": -13.6})
    path = write([atoms, atoms])
    for _ in range(2):
        samples = load_samples(path, 4.0, require=("energy",), cache=tmp_path / "cache")
        assert [s.graph.n_edges for s in samples] == [0, 0] and float(samples[1].labels.energy) == -13.6


def test_speed(copper: list[Atoms]) -> None:
    """A thousand frames of 64 atoms become graphs in seconds."""
    big = copper[0] * (2, 2, 2)
    start = time.process_time()
    edges = sum(to_graph(big, 5.0).n_edges for _ in range(50))
    assert edges > 50 * 64 * 30
    assert time.process_time() - start < 1.0
