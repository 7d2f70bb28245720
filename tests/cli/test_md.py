"""`mlanet md` and `mlanet trajectory`, from a structure to pictures, and what they refuse."""

from __future__ import annotations

import shlex
import signal
import time
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from forked import Forked

from mlanet.cli.main import main
from mlanet.dynamics.run import _Run

SILICON = Path(__file__).parents[2] / "mlanet" / "examples" / "si.cif"
RUN = ("md", SILICON, "-m", "elemental", "--steps", 20, "--every", 2, "--checkpoint-every", 10, "-T", 300)


@pytest.mark.usefixtures("drawn")
def test_from_a_crystal_to_pictures(mlanet) -> None:
    """A run, its folder, its summary; then its analysis against another run, with tables and pictures."""
    first = mlanet(*RUN, "-o", "a", "-e", "nve", "--dtype", "float64", "--json")
    assert first.status == 0
    assert first.document["finished"] and first.document["steps"] == 20
    assert first.document["temperature_K"] > 0 and first.document["ns_per_day"] > 0
    assert abs(first.document["drift_meV_per_atom_per_ps"]) < 5
    names = {path.name for path in Path("a").iterdir()}
    assert names == {"trajectory.extxyz", "log.csv", "checkpoint.safetensors", "md_summary.png"}
    assert mlanet(*RUN, "-o", "b", "-e", "langevin", "--friction", 5).status == 0
    words = ("trajectory", "a/trajectory.extxyz", "-r", "b/trajectory.extxyz", "-o", "out", "--tau", 0.01)
    analysed = mlanet(*words, "--json")
    assert analysed.status == 0
    assert 0 < analysed.document["rdf_error_A"] < 3
    files = {"rdf.csv", "h.csv", "angles.csv", "distributions.png", "motions.png"}
    written = (*analysed.document["files"], *analysed.document["pictures"])
    assert {Path(path).name for path in written} == files
    people = mlanet(*words)
    assert "∫|Δg(r)| dr, Å" in people.out and "wrote out/distributions.png" in people.err


def test_length_in_picoseconds_and_supercell(mlanet) -> None:
    """0.004 ps of 2 fs are two steps; 1x1x2 doubles the atoms."""
    words = ("--time", 0.004, "--timestep", 2, "--repeat", "1x1x2", "-o", "a", "--json")
    result = mlanet("md", SILICON, "-m", "elemental", *words)
    assert result.document["steps"] == 2 and result.document["time_ps"] == pytest.approx(0.004)
    assert len(ase.io.read("a/trajectory.extxyz")) == 2 * len(ase.io.read(SILICON))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--ensemble", "nvt"), "nvt"),
        (("--timestep", -1), "timestep must be positive"),
        (("--temperature", -3), "temperature must be zero or positive"),
        (("--repeat", "2,2,2"), "not of the form 2x2x1"),
        (("--time", 1, "--steps", 5), "not both"),
        (("--keep-velocities",), "no velocities"),
        (("--tabulated",), "only LEIGNN"),
        (("--resume",), "no checkpoint to resume from"),
    ],
)
def test_wrong_words(mlanet, words: tuple[object, ...], message: str) -> None:
    """Status 2 or 3 and the reason; no folder is left."""
    result = mlanet("md", SILICON, "-m", "elemental", "-o", "a", *words)
    assert result.status in (2, 3) and message in result.err
    assert not Path("a").exists()


def test_wrong_structures_and_models(mlanet, make_model) -> None:
    """A missing file, an unknown element, a molecule under pressure, a direct model asked for constant energy."""
    assert "no such file" in mlanet("md", "none.cif", "-m", "elemental").err
    ase.io.write("co.xyz", molecule("CO"))
    Path("near.xyz").write_text("2\nclose\nSi 0 0 0\nSi 0 0 0.05\n")
    assert "near.xyz, frame 0: atoms 0 and 1 overlap" in mlanet("md", "near.xyz", "-m", "elemental").err
    assert "not trained on C" in mlanet("md", "co.xyz", "-m", "elemental").err
    ase.io.write("cu.extxyz", bulk("Cu", cubic=True))
    ase.io.write("cluster.xyz", bulk("Cu", cubic=True).copy(), format="xyz")
    direct = make_model(forces="direct")
    refused = mlanet("md", "cu.extxyz", "-m", direct, "-e", "nve")
    assert refused.status == 2 and "direct head" in refused.err and "langevin" in refused.err
    allowed = mlanet("md", "cu.extxyz", "-m", direct, "-e", "langevin", "--steps", 1, "-o", "b")
    assert allowed.status == 0 and "direct head" in allowed.err
    assert "periodic in three directions" in mlanet("md", "cluster.xyz", "-m", direct, "-e", "npt").err


def test_a_finished_folder_is_not_overwritten(mlanet) -> None:
    """Said with what to do; with other settings a resume is refused too."""
    assert mlanet(*RUN, "-o", "a", "-e", "nve").status == 0
    before = Path("a/trajectory.extxyz").read_bytes()
    again = mlanet(*RUN, "-o", "a", "-e", "nve")
    assert again.status == 2 and "--resume" in again.err
    other = mlanet(*RUN, "-o", "a", "-e", "bussi", "--resume")
    assert other.status == 2 and "ensemble (was nve, now bussi)" in other.err
    assert Path("a/trajectory.extxyz").read_bytes() == before


def test_killed_and_resumed_is_the_same_run(mlanet, tmp_path: Path) -> None:
    """SIGKILL in the middle, then --resume: the files equal those of a run that was left alone, to the byte."""
    words = [str(word) for word in RUN]
    words[words.index("20")] = "30"
    words += ["-e", "langevin"]
    assert mlanet(*words, "-o", "whole").status == 0
    victim = Forked(lambda: main([*words, "-o", "part"]))
    checkpoint = tmp_path / "part" / "checkpoint.safetensors"
    while not checkpoint.exists() and victim.poll() is None:
        time.sleep(0.01)
    victim.kill()
    victim.communicate()
    assert victim.returncode == -signal.SIGKILL
    assert mlanet(*words, "-o", "part", "--resume").status == 0
    for name in ("trajectory.extxyz", "log.csv"):
        assert (tmp_path / "part" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_ctrl_c_says_what_was_kept_and_how_to_go_on(mlanet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Status 130, a checkpoint of the running step, and a command that ends as if never interrupted."""
    words = [*map(str, RUN), "-e", "langevin"]
    assert mlanet(*words, "-o", "whole").status == 0
    right, steps = _Run.advance, []

    def watched(self: _Run) -> None:
        right(self)
        steps.append(self.step)
        if len(steps) == 7:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(_Run, "advance", watched)
    outcome = mlanet(*words, "-o", "part")
    assert outcome.status == 130 and "kept: part" in outcome.err and len(steps) == 7
    again = shlex.split(outcome.err.partition("go on with: mlanet ")[2].splitlines()[0])
    assert again == [*words, "-o", "part", "--resume"] and mlanet(*again).status == 0
    for name in ("trajectory.extxyz", "log.csv"):
        assert Path("part", name).read_bytes() == Path("whole", name).read_bytes()


def test_analysis_says_what_is_wrong(mlanet) -> None:
    """Frames without a time, another substance, an element that is not there."""
    ase.io.write("cu.extxyz", [bulk("Cu", cubic=True)] * 3)
    ase.io.write("al.extxyz", [bulk("Al", cubic=True)] * 3)
    assert "do not say their time" in mlanet("trajectory", "cu.extxyz").err
    timed = ("trajectory", "cu.extxyz", "--interval", 10)
    assert mlanet(*timed).status == 0
    assert "is of Al4, the trajectory of Cu4" in mlanet(*timed, "-r", "al.extxyz").err
    assert "no Li in" in mlanet(*timed, "--diffusion", "Li").err


@pytest.mark.parametrize(
    "words", [("md",), ("neb", "--vacancy", 0), ("diffusion", "-T", 300)], ids=lambda words: words[0]
)
def test_what_has_no_lattice_is_not_repeated(mlanet, words: tuple[object, ...]) -> None:
    """A molecule without a cell, or with one vector of three; repeated once it is left alone."""
    for cell, names in ((None, "a, b, c"), ([5.0, 0, 0], "b, c")):
        atoms = Atoms("Li2", [[0, 0, 0], [2.7, 0, 0]], cell=None if cell is None else np.diag(cell))
        ase.io.write("two.extxyz", atoms)
        done = mlanet(words[0], "two.extxyz", *words[1:], "--repeat", "2x2x2", "-m", "elemental")
        assert done.status == 2 and f"no lattice vector {names}" in " ".join(done.err.replace("│", " ").split())
