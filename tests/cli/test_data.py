"""`mlanet data`: audit, splits and conversion."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest


def test_check_prints_an_audit(mlanet, labelled) -> None:
    """A clean set is described without a warning, as a table and as JSON."""
    outcome = mlanet("data", "check", labelled, "--require", "energy,forces,stress")
    assert outcome.status == 0 and "eV/atom" in outcome.out and "no warnings" in outcome.out
    document = mlanet("data", "check", labelled, "--json").document
    assert document["warnings"] == [] and document["audit"]["frames"] == 6


def test_strict_check_fails_on_a_leak(mlanet, labelled) -> None:
    """Frames that stand in both sets are a warning, and with --strict status 1."""
    outcome = mlanet("data", "check", labelled, "--valid", labelled)
    assert outcome.status == 0 and "leak" in outcome.out
    outcome = mlanet("data", "check", labelled, "--valid", labelled, "--strict", "--json")
    assert outcome.status == 1 and outcome.document["warnings"]


def test_split_is_seeded_and_complete(mlanet, labelled) -> None:
    """The same seed gives the same files; no frame is lost or doubled; labels travel along."""
    words = ["--sizes", "0.5,0.25,0.25", "--seed", "3"]
    first = mlanet("data", "split", labelled, "-o", "a", *words, "--json").document
    mlanet("data", "split", labelled, "-o", "b", *words)
    mlanet("data", "split", labelled, "-o", "c", "--sizes", "0.5,0.25,0.25", "--seed", "4")
    assert [part["name"] for part in first["parts"]] == ["train", "valid", "test"]
    names = [f"{name}.extxyz" for name in ("train", "valid", "test")]
    assert all(Path("a", name).read_bytes() == Path("b", name).read_bytes() for name in names)
    assert any(Path("a", name).read_bytes() != Path("c", name).read_bytes() for name in names)
    energies = [atoms.get_potential_energy() for name in names for atoms in ase.io.read(Path("a", name), ":")]
    assert sorted(energies) == pytest.approx(sorted(a.get_potential_energy() for a in ase.io.read(labelled, ":")))


def test_split_by_group_keeps_trajectories_together(mlanet, labelled) -> None:
    """No trajectory stands on two sides."""
    frames = ase.io.read(labelled, ":") * 4
    for number, atoms in enumerate(frames):
        atoms.info["traj"] = f"run{number % 5}"
    ase.io.write("runs.extxyz", frames)
    assert mlanet("data", "split", "runs.extxyz", "-o", "s", "--sizes", "0.6,0.4", "--by-group").status == 0
    sides = [{a.info["traj"] for a in ase.io.read(Path("s", f"{name}.extxyz"), ":")} for name in ("train", "valid")]
    assert not sides[0] & sides[1] and len(sides[0] | sides[1]) == 5


def test_split_never_replaces(mlanet, labelled) -> None:
    """A second split into the same folder is an error, and the first stays."""
    assert mlanet("data", "split", labelled, "-o", "a", "--sizes", "0.5,0.5").status == 0
    before = Path("a/train.extxyz").read_bytes()
    outcome = mlanet("data", "split", labelled, "-o", "a", "--sizes", "0.5,0.5", "--seed", "7")
    assert outcome.status == 3 and "exists" in outcome.err and Path("a/train.extxyz").read_bytes() == before


@pytest.mark.parametrize("sizes", ["1", "a,b", "0.9,0.9", "100,100", "0.5,-0.5", "0.1,0.1,0.1,0.1"])
def test_impossible_sizes(mlanet, labelled, sizes: str) -> None:
    """Sizes without a meaning are status 2, and nothing is written."""
    outcome = mlanet("data", "split", labelled, "-o", "a", "--sizes", sizes)
    assert outcome.status == 2 and outcome.err.startswith("error: ") and not Path("a").exists()


@pytest.mark.parametrize("name", ["all.extxyz", "all.xyz", "all.traj"])
def test_convert_keeps_labels_and_info(mlanet, labelled, name: str) -> None:
    """Energy, forces, stress, cell and info survive."""
    source = ase.io.read(labelled, ":")
    for atoms in source:
        atoms.info["config_type"] = "crystal"
    ase.io.write("tagged.extxyz", source)
    assert mlanet("data", "convert", "tagged.extxyz", "-o", name).status == 0
    for old, new in zip(source, ase.io.read(name, ":"), strict=True):
        assert new.get_potential_energy() == pytest.approx(old.get_potential_energy(), abs=1e-8)
        np.testing.assert_allclose(new.get_forces(), old.get_forces(), atol=1e-8)
        np.testing.assert_allclose(new.get_stress(), old.get_stress(), atol=1e-8)
        np.testing.assert_allclose(new.cell, old.cell, atol=1e-8)
        assert new.info["config_type"] == "crystal"


def test_what_was_converted_can_be_split_by_group(mlanet, labelled) -> None:
    """Frames keep the file that they came from, unless they name a trajectory; of one file nothing is said."""
    first, second = ase.io.read(labelled, ":3"), ase.io.read(labelled, "3:")
    for atoms in second[1:]:
        atoms.info["traj"] = "melt"
    for name, frames in (("a", first), ("b", second)):
        Path(name).mkdir()
        ase.io.write(f"{name}/run.extxyz", frames)
    assert mlanet("data", "convert", "a", "b", "-o", "all.extxyz").status == 0
    infos = [atoms.info.get("group") for atoms in ase.io.read("all.extxyz", ":")]
    assert infos == [*["a/run.extxyz"] * 3, "b/run.extxyz", None, None]
    outcome = mlanet("data", "split", "all.extxyz", "-o", "split", "--by-group", "--sizes", "0.5,0.2,0.3")
    assert outcome.status == 0 and "a/run.extxyz" in outcome.out and "melt" in outcome.out
    assert mlanet("data", "convert", "a", "-o", "one.extxyz").status == 0
    assert "group" not in ase.io.read("one.extxyz").info


def test_convert_refuses_what_would_lose_labels(mlanet, labelled) -> None:
    """A format without labels is refused by name, and an input is never overwritten."""
    assert mlanet("data", "convert", labelled, "-o", "x.cif").status == 3
    before = labelled.read_bytes()
    assert mlanet("data", "convert", labelled, "-o", labelled).status == 3
    assert labelled.read_bytes() == before
