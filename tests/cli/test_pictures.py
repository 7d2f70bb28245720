"""Every command that draws: people read the answer first, programs are told of files that are there; no answer is lost
where nothing can be drawn, and nothing is drawn if told so."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from matplotlib.figure import Figure

from mlanet.data.read import Frame
from mlanet.errors import OutputError
from mlanet.page import Page
from mlanet.properties.files import Answer, Item, measured_one
from mlanet.training.report import Report

LI = str(files("mlanet") / "examples" / "li.POSCAR")
ELEMENTAL = ("--model", "elemental")

HOP = ("--repeat", "2x2x2", "--vacancy", "0", "--images", "3")


class Drawer(NamedTuple):
    """A command that draws: its words, what it draws, and the status of these words."""

    words: tuple[str, ...]
    picture: str
    status: int = 0


OF_THEIR_OWN = {
    "md": Drawer(("md", LI, *ELEMENTAL, "--steps", "1", "--output", "out"), "md_summary.png"),
    "eos": Drawer(("eos", LI, *ELEMENTAL, "--points", "5", "--output", "out"), "li-0.png"),
    "neb": Drawer(
        ("neb", LI, *ELEMENTAL, *HOP, "--steps", "1", "--as-given", "--output", "out"),
        "barrier.png",
        1,
    ),
    "diffusion": Drawer(("diffusion", "run.extxyz", "--interval", "50", "--output", "out"), "diffusion.png"),
    "trajectory": Drawer(("trajectory", "run.extxyz", "--interval", "50", "--output", "out"), "distributions.png"),
    "exfoliate": Drawer(
        ("exfoliate", "sheets.extxyz", *ELEMENTAL, "--distances", "3.6:10:5", "--output", "out"), "curve.png"
    ),
    "check": Drawer(("check", *ELEMENTAL, "--pairs", "Li", "--output", "out"), "diatomics.png"),
}
"""Draw of themselves, and not with --no-picture."""
ASKED_FOR = {
    "predict": Drawer(("predict", LI, *ELEMENTAL, "--picture", "out/li.png"), "li.png", 3),
    "evaluate": Drawer(("evaluate", "run.extxyz", *ELEMENTAL, "--plots", "out"), "parity_energy.png", 3),
}
"""Draw where that is asked for; then it counts as a failure where they cannot."""


@pytest.fixture(autouse=True)
def inputs(tmp_path: Path) -> None:
    """A trajectory with labels and velocities, and a stack of sheets."""
    random, crystal, frames = np.random.default_rng(1), bulk("Li", "bcc", 3.4, cubic=True).repeat(2), []
    for k in range(48):
        frame = crystal.copy()
        frame.positions += random.normal(scale=0.03 * np.sqrt(k + 1), size=(len(crystal), 3))
        frame.set_velocities(random.normal(scale=0.01, size=(len(crystal), 3)))
        frame.info["REF_energy"] = -30.0 - 0.1 * k
        frames.append(frame)
    ase.io.write(tmp_path / "run.extxyz", frames)
    ase.io.write(tmp_path / "second.vasp", bulk("Li", "bcc", 3.45))
    sheets = Atoms("Mo2", [[0, 0, 0.1], [0, 0, 4.5]], cell=[2.6, 2.6, 8.8], pbc=True)
    ase.io.write(tmp_path / "sheets.extxyz", sheets)


@pytest.mark.parametrize("name", OF_THEIR_OWN)
def test_an_answer_is_out_before_its_picture_is_begun(mlanet, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """All of stdout is out, and flushed, when the first line of the first picture is drawn."""
    drawer, heard, out, before = OF_THEIR_OWN[name], [], [], []
    made, write, flush = Figure.__init__, sys.stdout.write, sys.stdout.flush

    def listening(figure: Figure, *words: object, **named: object) -> None:
        before.append("".join(out))
        made(figure, *words, **named)

    def flushing() -> None:
        out[:] = heard
        flush()

    monkeypatch.setattr(sys.stdout, "write", lambda text: heard.append(text) or write(text))
    monkeypatch.setattr(sys.stdout, "flush", flushing)
    monkeypatch.setattr(Figure, "__init__", listening)
    done = mlanet(*drawer.words)
    assert done.status == drawer.status, done.err
    assert before and before[0] == done.out
    assert (Path("out") / drawer.picture).exists()


NAMING = sorted({*OF_THEIR_OWN, *ASKED_FOR} - {"md", "eos"})
"""Their JSON names pictures."""


@pytest.mark.parametrize("name", NAMING)
def test_pictures_of_a_document_are_there_when_it_is_read(mlanet, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Whoever reads the document can open what it names at once."""
    drawer, missing = (OF_THEIR_OWN | ASKED_FOR)[name], []
    write = sys.stdout.write

    def reading(text: str) -> int:
        if text.startswith("{"):
            said = json.loads(text)
            missing.extend(path for path in said["pictures"] if not Path(path).exists())
        return write(text)

    monkeypatch.setattr(sys.stdout, "write", reading)
    done = mlanet(*drawer.words, "--json")
    said = done.document
    assert f"out/{drawer.picture}" in said["pictures"] and f"out/{drawer.picture}" not in said.get("files", ())
    assert not missing and all(Path(path).exists() for path in (*said.get("files", ()), *said["pictures"]))
    assert "picture" not in done.err


@pytest.mark.parametrize("name", ["trajectory", "evaluate", "neb"])
def test_a_document_names_no_picture_that_is_not_there(mlanet, unable, name: str) -> None:
    """One that could not be drawn is not named; the others are, and all numbers."""
    drawer = (OF_THEIR_OWN | ASKED_FOR)[name]
    unable(drawer.picture)
    done = mlanet(*drawer.words, "--json")
    assert done.status == drawer.status, done.err
    said = done.document
    assert len(said) > 2 and f"out/{drawer.picture}" not in said["pictures"]
    assert all(Path(path).is_file() for path in said["pictures"])


@pytest.mark.parametrize("name", ["trajectory", "predict"])
def test_a_document_is_not_lost_while_its_picture_is_drawn(mlanet, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Ctrl-C then leaves it whole, without the picture."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Figure, "__init__", interrupted)
    done = mlanet(*(OF_THEIR_OWN | ASKED_FOR)[name].words, "--json")
    assert done.status == 130 and done.document["pictures"] == []


SEVERAL = {
    "trajectory": ("run.extxyz", "--interval", "50", "--output"),
    "evaluate": ("run.extxyz", *ELEMENTAL, "--plots"),
    "eos": (LI, "second.vasp", *ELEMENTAL, "--points", "5", "--output"),
}


@pytest.mark.parametrize("name", SEVERAL)
def test_without_matplotlib_that_is_said_once(mlanet, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """However many pictures a command has to draw; and again by the next command."""
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    for folder in ("first", "second"):
        done = mlanet(name, *SEVERAL[name], folder)
        assert done.status == (3 if name == "evaluate" else 0)
        assert done.err.count("no picture: matplotlib") == 1, done.err


def test_without_pictures_matplotlib_is_never_loaded(tmp_path: Path) -> None:
    """With --no-picture; then there is none, and the document says so."""
    words = {name: (*drawer.words[:-1], name) for name, drawer in OF_THEIR_OWN.items()}
    status = {name: drawer.status for name, drawer in OF_THEIR_OWN.items()}
    program = f"""
import json, sys
from mlanet.cli.main import main
heard, write = [], sys.stdout.write
for name, words in {words!r}.items():
    sys.stdout.write = heard.append
    assert main([*words, "--no-picture", "--json"]) == {status!r}[name], name
    sys.stdout.write = write
    assert not json.loads("".join(heard)).get("pictures"), name
    heard.clear()
    assert "matplotlib" not in sys.modules, name
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.rglob("*.png"))


@pytest.fixture(params=["cannot be loaded", "cannot be written"])
def unable(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Makes drawing impossible, and says what is said then: no matplotlib, or a folder in the picture's place."""

    def make(picture: str) -> str:
        if request.param == "cannot be written":
            (Path("out") / picture).mkdir(parents=True)
        else:
            monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
        return request.param

    return make


@pytest.mark.parametrize("name", [*OF_THEIR_OWN, *ASKED_FOR])
def test_no_answer_is_lost_for_want_of_a_picture(mlanet, unable, name: str) -> None:
    """The numbers, and a sentence that says so; a failure only where the picture was asked for."""
    drawer = (OF_THEIR_OWN | ASKED_FOR)[name]
    why = unable(drawer.picture)
    done = mlanet(*drawer.words)
    assert done.status == drawer.status, done.err
    assert done.out and "Traceback" not in done.err
    assert "warning: no picture: " in done.err and why in done.err
    assert ("--no-picture" in done.err) == (name in OF_THEIR_OWN)


def test_a_broken_matplotlib_is_one_that_is_not_there(mlanet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Built for another numpy, it fails with AttributeError when it is imported."""

    class Broken:
        def __getattr__(self, name: str) -> object:
            raise AttributeError("_ARRAY_API not found")

    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", Broken())
    words, *_ = OF_THEIR_OWN["eos"]
    done = mlanet(*words)
    assert done.status == 0 and "eV/atom" in done.out and "no picture: matplotlib" in done.err


def test_ctrl_c_while_a_picture_is_drawn(mlanet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is out, and what is kept is named."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mlanet.dynamics.plots.course", interrupted)
    done = mlanet("md", LI, *ELEMENTAL, "--steps", "1")
    assert done.status == 130 and "eV/atom" in done.out
    assert "wrote md/trajectory.extxyz, log.csv\n" in done.err
    monkeypatch.setattr("mlanet.properties.barrier_files.barrier_picture", interrupted)
    done = mlanet(*OF_THEIR_OWN["neb"].words)
    assert done.status == 130 and "barrier, eV" in done.out
    assert "wrote out/path.extxyz" in done.err and "barrier.png" not in done.err


def test_numbers_of_a_worker_stay_without_a_picture() -> None:
    """Where the process that computes draws, too."""

    def draw() -> None:
        raise OutputError("si.png: cannot be written: no space")

    item = Item(Frame(bulk("Si"), "si.cif"), "", Path("si"))
    outcome = measured_one(lambda *_: Answer({"volume": 20.0}, draw), None, item, drawn=True)
    assert outcome.numbers == {"volume": 20.0} and outcome.error is None
    assert "no picture: si.png" in outcome.remarks[0]


def test_a_training_ends_without_its_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hours are not lost for a curve."""
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    Report(tmp_path, writes=True, tensorboard=False, shown=True).picture(
        [{"step": 1, "train_loss": 1.0}, {"step": 2, "train_loss": 0.5}]
    )
    assert "no picture: matplotlib" in capsys.readouterr().err and not list(tmp_path.glob("*.png"))


def test_a_page_is_written_without_its_pictures(tmp_path: Path) -> None:
    """Its tables are there, and a sentence says what is not; a figure that there is nothing for leaves no heading."""

    def draw() -> Figure:
        raise OutputError("matplotlib, which draws pictures, cannot be loaded")

    page = Page("Report", "")
    page.picture(draw, "Error against time.", heading="Costs")
    page.picture(lambda: None, "nothing", heading="Blank sheet")
    page.table(("model",), [("a",)])
    page.write(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "No picture: matplotlib" in text and "Costs" in text and "Blank sheet" not in text and ">a</td>" in text
