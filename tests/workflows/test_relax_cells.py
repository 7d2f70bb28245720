"""What a relaxation may change: symmetry that is kept, vectors that are held, empty space that stays empty."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms

from mlanet.data.empty_space import empty_axes
from mlanet.errors import ConfigError, GeometryError
from mlanet.workflows.cell import held_vectors, space_group, strain_mask
from mlanet.workflows.relax import relaxation


def relaxed(atoms: Atoms, **options: object) -> Atoms:
    atoms.calc = EMT()
    *_, last = relaxation(atoms, method="lbfgs", fmax=0.003, **options)  # type: ignore[arg-type]
    assert last.converged
    return atoms


def test_symmetry_is_kept_to_the_last_digit() -> None:
    """A crystal off its symmetry by less than symprec ends on it; without the option it does not."""
    rattled = bulk("Cu", "fcc", 3.7, cubic=True)
    rattled.rattle(1e-3, seed=0)
    rattled.set_cell(rattled.cell.array @ (np.eye(3) + 1e-4 * np.random.default_rng(0).normal(size=(3, 3))), True)
    free, kept = relaxed(rattled.copy(), cell="full"), relaxed(rattled.copy(), cell="full", symmetry=0.02)
    assert space_group(kept, 1e-6) == "Fm-3m (225)" and not kept.constraints
    assert space_group(free, 1e-6) != "Fm-3m (225)"
    assert kept.cell.volume == pytest.approx(free.cell.volume, rel=1e-3)
    with pytest.raises(GeometryError, match="leave out --keep-symmetry"):
        relaxed(fcc111("Cu", (1, 1, 2), vacuum=6), symmetry=0.01)
    rattled.set_constraint(FixAtoms([0]))
    with pytest.raises(ConfigError, match="held atoms"):
        relaxed(rattled, symmetry=0.01)


def test_a_held_vector_stays_and_its_stress_is_what_remains() -> None:
    """c of a stretched crystal; the others find where their stress vanishes."""
    atoms = bulk("Cu", "fcc", 3.6, cubic=True)
    atoms.set_cell(atoms.cell.array * [1.0, 1.0, 1.03], scale_atoms=True)
    before = atoms.cell.array.copy()
    relaxed(atoms, cell="full", hold="c")
    assert np.array_equal(atoms.cell[2], before[2]) and atoms.cell[0, 0] < before[0, 0]
    stress = atoms.get_stress()
    assert np.abs(stress[:2]).max() < 1e-3 and stress[2] > 0.01
    for hold, words in (("abc", "no lattice vector is left"), ("d", "'d' are no lattice vectors")):
        with pytest.raises((GeometryError, ConfigError), match=words):
            relaxed(atoms, cell="full", hold=hold)
    with pytest.raises(GeometryError, match="held already"):
        relaxed(atoms, hold="c")
    with pytest.raises(GeometryError, match="c is held; use full"):
        relaxed(atoms, cell="volume", hold="c")
    with pytest.raises(GeometryError, match=r"held \(a\) must lie along"):
        relaxed(bulk("Cu"), cell="full", hold="a")


def test_a_slab_that_says_it_is_periodic_keeps_its_empty_space() -> None:
    """It relaxes as the same slab does that is free along c; empty space is found in any turn of the cell."""
    slab = fcc111("Cu", (1, 1, 3), vacuum=6.0)
    whole = slab.copy()
    whole.pbc = True
    assert list(empty_axes(whole)) == ["c"] and empty_axes(whole)["c"] == pytest.approx(12.0)
    assert not empty_axes(bulk("Cu")) and not empty_axes(slab)
    height = whole.cell[2].copy()
    a, b = relaxed(slab, cell="full"), relaxed(whole, cell="full", vacuum="auto")
    assert np.allclose(a.cell[:2, :2], b.cell[:2, :2], atol=1e-4) and np.array_equal(b.cell[2], height)
    assert strain_mask(b, held_vectors(b, "", "auto")).tolist() == [True, True, False, False, False, True]
    with pytest.raises(GeometryError, match="pressure has no meaning"):
        relaxed(whole, cell="full", vacuum="auto", pressure=1.0)


@pytest.mark.parametrize("free", ["c", "ab"])
def test_a_cell_without_a_volume_is_refused(free: str) -> None:
    """As ASE builds sheets and wires: vectors of no length where nothing repeats. With a length they relax."""
    atoms = bulk("Cu", "sc", a=2.4)
    for axis in ("abc".index(name) for name in free):
        atoms.pbc[axis], atoms.cell.array[axis] = False, 0.0
    with pytest.raises(GeometryError, match=rf"lattice vector {free} has no length"):
        relaxed(atoms.copy(), cell="full")
    atoms.center(vacuum=8, axis=["abc".index(name) for name in free])
    before = atoms.cell.lengths()
    after = relaxed(atoms, cell="full").cell.lengths()
    assert [abs(a - b) < 1e-9 for a, b in zip(after, before, strict=True)] == [name in free for name in "abc"]


def test_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What was held and the space group are in the answer; what cannot be relaxed is named, and costs no other."""
    import json

    from mlanet.cli.main import main

    monkeypatch.chdir(tmp_path)
    ase.io.write("si.cif", bulk("Si", a=5.5))
    base = ["relax", "si.cif", "-m", "elemental", "--fmax", "0.1", "--json"]
    assert main([*base, "--cell", "full", "--keep-symmetry"]) == 0
    assert json.loads(capsys.readouterr().out)["space_group"] == "Fd-3m (227)"
    sheet = Atoms("Si2", [[0, 0, 0], [1.93, 1.114, 0.5]], cell=[[3.86, 0, 0], [-1.93, 3.343, 0], [0, 0, 15]], pbc=True)
    ase.io.write("sheet.extxyz", sheet)
    main(["relax", "sheet.extxyz", "-m", "elemental", "--cell", "full", "--steps", "2", "--json"])
    said = capsys.readouterr()
    assert json.loads(said.out)["held_vectors"] == "c" and "Å along c are empty" in said.err
    ase.io.write("atom.extxyz", Atoms("Si"))
    ase.io.write("au.cif", bulk("Au"))
    Path("broken.cif").write_text("data_\nnothing")
    words = ["atom.extxyz", "au.cif", "broken.cif", "si.cif", "-o", "all.extxyz", "--keep-going", "--cell", "full"]
    assert main(["relax", *words, "-m", "elemental", "--fmax", "0.5", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert len(told["relaxed"]) == 1 and len(told["refused"]) == 3
    for message, parts in zip(
        told["refused"], (("atom.extxyz", "periodic"), ("au.cif", "Au"), ("broken.cif",)), strict=True
    ):
        assert all(part in message for part in parts), message
