"""Ionic steps of VASP whose electrons did not converge are told, marked, and left out of what a model learns from."""

from __future__ import annotations

import contextlib
import gzip
import json
import warnings
from pathlib import Path

import ase.io
import pytest

from mlanet.cli.main import main
from mlanet.data.dataset import load_samples
from mlanet.data.read import read_frames
from mlanet.data.vasp_steps import MARK, is_unconverged
from mlanet.errors import DataError
from mlanet.sweep.config import SweepData
from mlanet.sweep.parts import divide

CELL = ((0.0, 2.7, 2.7), (2.7, 0.0, 2.7), (2.7, 2.7, 0.0))
GOOD, SPENT, JUST = (
    (-1.0, -10.4, -10.5, -10.50001),
    (-1.0, -9.0, -10.0, -10.3, -10.5),
    (-1.0, -9.0, -10.0, -10.5, -10.5),
)
"""Energies of the electronic steps: converged early, NELM of them and not converged, and converged in the last one."""


def vectors(rows: tuple[tuple[float, ...], ...]) -> str:
    return "".join(f"<v>{' '.join(map(str, row))}</v>" for row in rows)


def vasprun(*steps: tuple[float, ...], nelm: int = 5) -> str:
    """A run of so many ionic steps of two silicon atoms."""

    def energy(value: float) -> str:
        return f'<energy><i name="e_fr_energy">{value}</i><i name="e_0_energy">{value}</i></energy>'

    shape = f'<crystal><varray name="basis">{vectors(CELL)}</varray></crystal>'
    places = f'<varray name="positions">{vectors(((0, 0, 0), (0.25, 0.25, 0.25)))}</varray></structure>'
    calculations = "\n".join(
        "<calculation>\n"
        + "\n".join(f"<scstep>{energy(value)}</scstep>" for value in values)
        + f'\n<structure>{shape}{places}<varray name="forces">{vectors(((0, 0, 0.1), (0, 0, -0.1)))}</varray>'
        f'<varray name="stress">{vectors(((1, 0, 0), (0, 1, 0), (0, 0, 1)))}</varray>{energy(values[-1])}</calculation>'
        for values in steps
    )
    return f"""<?xml version="1.0" encoding="ISO-8859-1"?><modeling><kpoints><generation></generation>
<varray name="kpointlist"><v>0 0 0</v></varray><varray name="weights"><v>1</v></varray></kpoints>
<parameters><separator name="electronic"><i type="int" name="NELM">   {nelm}</i><i type="int" name="NELMDL">  -5</i>
<i name="EDIFF">      0.00010000</i><i name="EDIFFG">     -0.01000000</i></separator></parameters>
<atominfo><array name="atoms"><set><rc><c>Si</c><c>1</c></rc><rc><c>Si</c><c>1</c></rc></set></array></atominfo>
<structure name="initialpos">{shape}{places}
{calculations}</modeling>"""


def outcar(*steps: tuple[float, ...], nelm: int = 5, says: bool = False) -> str:
    """The same as an OUTCAR; newer versions of VASP say that EDIFF was not reached."""
    text = f""" POTCAR:    PAW_PBE Si 05Jan2001
 POTCAR:    PAW_PBE Si 05Jan2001
   k-points           NKPTS =      1   k-points in BZ     NKDIM =      1   number of bands    NBANDS=      8
   ISPIN  =      1    spin polarized calculation?
   NELM   =     {nelm};   NELMIN=  2; NELMDL= -5     # of ELM steps
   EDIFF  = 0.1E-03   stopping-criterion for ELM
   EDIFFG = -.1E-01   stopping-criterion for IOM
   ions per type =               2
 k-points in reciprocal lattice and weights: Gamma
   0.00000000  0.00000000  0.00000000       1.000

"""
    for number, values in enumerate(steps, 1):
        for k, (before, value) in enumerate(zip((0.0, *values), values, strict=False), 1):
            text += f"{'-' * 39} Iteration {number:6d}({k:4d})  {'-' * 39}\n"
            text += f" total energy-change (2. order) :{value - before:.7E}  (-0.1000000E-02)\n"
        if says and values is SPENT:
            text += " ------------------------ aborting loop EDIFF was not reached (unconverged)  ----------------\n"
        text += "      direct lattice vectors                 reciprocal lattice vectors\n"
        text += "".join(f"  {x:.6f}  {y:.6f}  {z:.6f}   0.1 0.1 0.1\n" for x, y, z in CELL)
        text += "  in kB      1.0  1.0  1.0  0.0  0.0  0.0\n"
        text += f" POSITION                                       TOTAL-FORCE (eV/Angst)\n {'-' * 83}\n"
        text += f"  0.0 0.0 0.0   0.0 0.0 0.1\n  1.35 1.35 1.35   0.0 0.0 -0.1\n {'-' * 83}\n"
        text += (
            "  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)\n  ---------------------------------------------------\n"
        )
        text += f"  free  energy   TOTEN  =       {values[-1]:.8f} eV\n\n"
        text += f"  energy  without entropy=      {values[-1]:.8f}  energy(sigma->0) =      {values[-1]:.8f}\n"
    return text


def written(folder: Path, name: str, *steps: tuple[float, ...], **options: int) -> Path:
    path = folder / name
    text = (outcar if name.startswith("OUTCAR") else vasprun)(*steps, **options)
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def told(path: Path, index: str = ":") -> tuple[list[bool], str]:
    """Which frames are marked, and what was said."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        marks = [is_unconverged(frame.atoms) for frame in read_frames(path, index=index)]
    return marks, "; ".join(str(one.message) for one in caught)


@pytest.mark.parametrize("name", ["vasprun.xml", "vasprun.xml.gz", "OUTCAR"])
def test_steps_without_converged_electrons_are_told(tmp_path: Path, name: str) -> None:
    """By file and frame, whichever frames are asked for; NELM steps of which the last one converged are enough."""
    path = written(tmp_path, name, GOOD, SPENT, JUST, SPENT)
    marks, said = told(path)
    assert marks == [False, True, False, True]
    assert said.startswith(f"{path}: the electrons did not converge within NELM = 5 steps in frames 1, 3; ")
    assert told(path, "-1") == ([True], said.replace("frames 1, 3", "frame 3"))
    assert told(path, "1:3")[0] == [True, False] and told(path, "-2:")[0] == [False, True]
    assert told(path, "::2") == ([False, False], "")
    assert told(written(tmp_path, name, GOOD, SPENT, nelm=60)) == ([False, False], "")
    assert told(written(tmp_path, name, (-1.0,), nelm=1)) == ([False], "")


def test_what_vasp_says_itself_is_believed(tmp_path: Path) -> None:
    """Its newer versions say so in the OUTCAR, for instance of runs whose last change was small by chance."""
    assert told(written(tmp_path, "OUTCAR", GOOD, SPENT, nelm=60, says=True))[0] == [False, True]


def test_a_run_stopped_in_its_third_step(tmp_path: Path) -> None:
    """The step without an energy is none, and shifts no mark."""
    path = tmp_path / "vasprun.xml"
    text = vasprun(SPENT, GOOD, GOOD)
    path.write_text(text[: text.rindex("<structure>")])
    marks, said = told(path)
    assert marks == [True, False] and "in frame 0;" in said and "ends early" in said


@pytest.mark.parametrize("name", ["vasprun.xml", "OUTCAR"])
def test_wherever_a_file_was_cut(tmp_path: Path, name: str) -> None:
    """Frames counted from the end have the marks that they have among all."""
    text = (vasprun if name == "vasprun.xml" else outcar)(GOOD, SPENT, GOOD, SPENT)
    read = 0
    for end in range(len(text) // 2, len(text), 89):
        path = tmp_path / name
        path.write_text(text[:end])
        with contextlib.suppress(DataError):  # ASE stumbles over an energy cut in its middle
            marks = told(path)[0]
            assert marks == [False, True, False, True][: len(marks)]
            for index in (slice(-1, None), slice(-2, None), slice(None, None, -1)):
                shown = ":".join("" if bound is None else str(bound) for bound in (index.start, index.stop, index.step))
                assert told(path, shown)[0] == marks[index], (end, shown)
                read += 1
    assert read > 30


def test_models_do_not_learn_from_such_steps(tmp_path: Path) -> None:
    """Unless that is wanted; the mark survives a conversion, and a cache of graphs changes nothing."""
    path = written(tmp_path, "vasprun.xml", GOOD, SPENT, GOOD)
    plain = tmp_path / "all.extxyz"
    assert main(["data", "convert", str(path), "--output", str(plain)]) == 0
    assert [frame.info.get(MARK, True) for frame in ase.io.read(plain, ":")] == [True, False, True]
    for file in (path, plain):
        for _ in range(2):
            with pytest.warns(
                UserWarning, match=r"left out 1 of 3 frames, whose electrons did not converge \(frame 1\)"
            ):
                assert len(load_samples(file, 3.0, cache=tmp_path / "cache")) == 2
        assert len(load_samples(file, 3.0, cache=tmp_path / "cache", keep_unconverged=True)) == 3
    with pytest.raises(DataError, match="in no frame did the electrons converge"):
        load_samples(written(tmp_path, "OUTCAR", SPENT, SPENT), 3.0)


def test_the_audit_and_sweeps_leave_them_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With an option, and a key, that keep them."""
    path = written(tmp_path, "vasprun.xml", *([GOOD] * 19), SPENT)
    for words, count in (((), 19), (("--keep-unconverged",), 20)):
        assert main(["data", "check", str(path), *words]) == 0
        shown = capsys.readouterr()
        assert f"{count} frames" in shown.out
        assert ("left out 1 of 20 frames" in shown.err) == (count == 19)
    for keep, count in ((False, 19), (True, 20)):
        parts = divide(SweepData(files=(str(path),), keep_unconverged=keep))
        assert sum(map(len, parts)) == count


def test_evaluation_and_calibration_leave_them_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They say how many; an option keeps them; a file of nothing else is refused."""
    path, bad = written(tmp_path, "vasprun.xml", *([GOOD] * 11), SPENT), written(tmp_path, "OUTCAR", SPENT, SPENT)
    words = ("--model", "elemental", "--json")
    for option, count in (((), 11), (("--keep-unconverged",), 12)):
        assert main(["evaluate", str(path), *words, *option]) == 0
        shown = capsys.readouterr()
        said = json.loads(shown.out)
        assert said["errors"]["frames"] == count
        assert said["left_out"] == ([] if option else [f"{path}: frame 11"])
        assert ("left out 1 of 12 frames" in shown.err) == (count == 11)
        output = tmp_path / f"calibrated-{count}.safetensors"
        assert main(["calibrate", "elemental", str(path), *option, "--output", str(output)]) == 0
        assert ("left out 1 of 12 frames" in capsys.readouterr().err) == (count == 11)
    assert main(["evaluate", str(bad), *words]) == 2
    assert "in no frame did the electrons converge; --keep-unconverged" in capsys.readouterr().err
    assert main(["evaluate", str(bad), *words, "--keep-unconverged"]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(path), str(bad), *words]) == 0
    assert json.loads(capsys.readouterr().out)["left_out"][1:] == [f"{bad}: frame 0", f"{bad}: frame 1"]


def test_a_table_of_errors_of_other_frames_is_not_gone_on_with(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """--resume with the switch turned would mix two sets."""
    path, table = written(tmp_path, "vasprun.xml", GOOD, SPENT), tmp_path / "errors.csv"
    words = ["evaluate", str(path), "--model", "elemental", "--csv", str(table)]
    assert main(words) == 0
    assert len(table.read_text().splitlines()) == 2
    assert main([*words, "--keep-unconverged"]) == 0
    assert len(table.read_text().splitlines()) == 3
    capsys.readouterr()
