"""Pictures are files that can be opened, written whole or not at all, and say the numbers they show."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import chemical_symbols
from ase.visualize.plot import Matplotlib
from matplotlib.figure import Figure
from matplotlib.image import imread

from mlanet.errors import OutputError
from mlanet.limits.calibration import LimitsReport, calibration
from mlanet.limits.plots import calibration_picture
from mlanet.plots import learning_curve, parity
from mlanet.structure_plots import VIEW, prediction_picture, structure_picture


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that is saved during a test."""
    saved: list[Figure] = []
    savefig = Figure.savefig

    def spy(self: Figure, *args: object, **kwargs: object) -> None:
        saved.append(self)
        savefig(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", spy)
    return saved


def texts(figure: Figure) -> str:
    """All words on a figure."""
    words = [text.get_text() for axes in figure.axes for text in axes.texts]
    words += [t.get_text() for axes in figure.axes for t in (axes.title, axes._left_title, axes.xaxis.label)]
    words += [t.get_text() for axes in figure.axes if axes.get_legend() for t in axes.get_legend().get_texts()]
    return "\n".join([*words, figure.get_supxlabel()])


def assert_picture(path: Path) -> None:
    """A PNG with something on it."""
    pixels = imread(path)[..., :3]
    assert min(pixels.shape[:2]) > 300
    assert 0.0015 < np.mean(pixels.min(axis=2) < 0.9) < 0.9


def predicted(atoms: Atoms, stress: bool = True) -> Atoms:
    """Atoms that carry made-up results."""
    chance = np.random.default_rng(0)
    results = {"energy": -5.4321 * len(atoms), "forces": chance.normal(size=(len(atoms), 3))}
    if stress:
        results["stress"] = np.array([0.01, 0.02, 0.03, 0.0, 0.0, 0.001])
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


@pytest.mark.parametrize("count", [1, 40, 5000])
def test_parity_says_its_errors(tmp_path: Path, figures: list[Figure], count: int) -> None:
    """MAE and RMSE of the values drawn stand in the picture, with unit and count, for dots and for densities."""
    reference = np.linspace(-3.0, 3.0, count) if count > 1 else np.array([1.0])
    signs = np.where(np.arange(count) % 2, 1.0, -1.0)
    parity(tmp_path / "forces.png", reference, reference + 0.125 * signs, "forces, eV/Å")
    assert_picture(tmp_path / "forces.png")
    words = texts(figures[0])
    assert "MAE   0.125 eV/Å" in words and "RMSE 0.125 eV/Å" in words
    assert f"{count:,} values".replace(",", "\u202f") in words
    assert "reference forces, eV/Å" in words


def test_parity_needs_pairs(tmp_path: Path) -> None:
    """Unequal or empty columns are an error, not an empty picture."""
    for reference, other in (([1.0, 2.0], [1.0]), ([], [])):
        with pytest.raises(ValueError, match="labels"):
            parity(tmp_path / "p.png", reference, other, "energy, eV/atom")
    assert list(tmp_path.iterdir()) == []


def test_learning_curves_have_one_panel_per_quantity(tmp_path: Path, figures: list[Figure]) -> None:
    """Losses and errors are sorted by name; missing, infinite and zero values and other columns are not drawn."""
    rows: list[dict[str, float | None]] = [
        {
            "step": step,
            "lr": 1e-3,
            "train_loss": 2.0 / step,
            "valid_loss": None if step % 2 else 3.0 / step,
            "valid_energy_mae": 0.1 / step,
            "valid_force_mae": float("nan") if step == 3 else 0.5 / step,
            "valid_stress_mae": 0.0,
        }
        for step in range(1, 11)
    ]
    learning_curve(tmp_path / "curve.png", rows)
    assert_picture(tmp_path / "curve.png")
    figure = figures[0]
    panels = {axes._left_title.get_text(): axes for axes in figure.axes}
    assert list(panels) == ["loss", "energy error, eV/atom", "force error, eV/Å"]
    assert [line.get_label() for line in panels["loss"].lines] == ["train", "valid"]
    assert [len(line.get_xdata()) for line in panels["loss"].lines] == [10, 5]
    assert [len(line.get_xdata()) for line in panels["force error, eV/Å"].lines] == [9]
    assert all(axes.get_yscale() == "log" for axes in figure.axes)
    with pytest.raises(ValueError, match="lr"):
        learning_curve(tmp_path / "none.png", [{"step": 1, "lr": 1.0}])


SYSTEMS = [
    bulk("Si", "diamond", a=5.43, cubic=True),
    bulk("NaCl", "rocksalt", a=5.64),
    molecule("CH3CH2OH"),
    molecule("H2"),
    Atoms("O"),
    Atoms(
        "Au4",
        positions=np.zeros((4, 3)) + np.arange(4)[:, None] * [2.5, 0, 0],
        cell=[10, 0, 0],
        pbc=[True, False, False],
    ),
]


@pytest.mark.parametrize("atoms", SYSTEMS, ids=lambda atoms: atoms.get_chemical_formula())
@pytest.mark.parametrize("size", [None, 0.0, 1e-9, 0.03, 50.0])
def test_any_structure_can_be_drawn(tmp_path: Path, figures: list[Figure], atoms: Atoms, size: float | None) -> None:
    """Crystals, wires, molecules and lone atoms, with forces of any size or none; the note says the longest."""
    forces = None
    if size is not None:
        forces = np.zeros((len(atoms), 3))
        forces[0] = [0.0, size, 0.0]
    before = atoms.copy()
    structure_picture(tmp_path / "s.png", atoms, forces)
    assert before == atoms
    assert_picture(tmp_path / "s.png")
    words = texts(figures[0])
    if size is not None:
        expected = {0.0: "all forces vanish", 1e-9: "all forces vanish", 0.03: "0.0300 eV/Å", 50.0: "50.0 eV/Å"}
        assert expected[size] in words
    assert atoms.get_chemical_formula("metal") in words
    assert set(atoms.get_chemical_symbols()) <= set(words.split())


def test_arrows_point_along_forces(tmp_path: Path, figures: list[Figure]) -> None:
    """In the projection of the atoms, an arrow is the image of the force, and arrows are to one scale."""
    atoms = Atoms("H3", positions=[[0, 0, 0], [3, 0, 0], [0, 2, 0]])
    forces = np.zeros((3, 3))
    forces[0] = 2.0 * (atoms.positions[1] - atoms.positions[0])
    forces[2] = 1.0 * (atoms.positions[1] - atoms.positions[0])
    structure_picture(tmp_path / "s.png", atoms, forces)
    axes = figures[0].axes[0]
    arrows = next(one for one in axes.collections if type(one).__name__ == "Quiver")
    centers = np.array([patch.center for patch in axes.patches])
    order = [int(np.abs(centers - start).sum(axis=1).argmin()) for start in arrows.XY]
    along = arrows.XY[1] - arrows.XY[0]
    drawn = np.stack([arrows.U, arrows.V], axis=1)
    assert len(set(order)) == 3, "every arrow starts at an atom"
    np.testing.assert_allclose(drawn[0] / np.linalg.norm(drawn[0]), along / np.linalg.norm(along), atol=1e-9)
    np.testing.assert_allclose(drawn[0], 2.0 * drawn[2], atol=1e-9)
    np.testing.assert_allclose(drawn[1], 0.0, atol=1e-12)


def test_outlines_tell_expected_errors(tmp_path: Path, figures: list[Figure]) -> None:
    """The darker the outline, the larger the error that is expected of the atom's force; a bar says how large."""
    atoms = bulk("NaCl", "rocksalt", 5.64, cubic=True)
    atoms.rattle(0.1)
    structure_picture(tmp_path / "without.png", atoms)
    assert len(figures[0].axes) == 1
    errors = np.linspace(0.05, 0.4, len(atoms))
    atoms.arrays["forces_std"] = errors
    structure_picture(tmp_path / "with.png", atoms)
    drawing, bar = figures[1].axes
    assert bar.get_ylim() == (0.0, 0.4)
    circles = [patch for patch in drawing.patches if type(patch).__name__ == "Circle"]
    darkness = [1 - np.mean(patch.get_edgecolor()[:3]) for patch in circles]
    depth = np.argsort(Matplotlib(atoms, figures[1].add_subplot(), rotation=VIEW, radii=1.0, scale=1).positions[:, 2])
    of_atoms = [atom for atom in depth if atom < len(atoms)]
    assert np.argsort(darkness).tolist() == np.argsort(errors[of_atoms]).tolist()


def test_a_page_of_predictions_has_numbers_with_units(tmp_path: Path, figures: list[Figure]) -> None:
    """Energy, force, pressure and stress of each structure stand beside it; what does not fit is counted."""
    crystals = [predicted(bulk("Si", "diamond", a=5.43, cubic=True))] * 7
    prediction_picture(tmp_path / "page.png", [predicted(molecule("H2O"), stress=False), *crystals])
    assert_picture(tmp_path / "page.png")
    words = texts(figures[0])
    for expected in (
        "−5.4321 eV",
        "H2O, 3 atoms",
        "not defined",
        "Si8, 8 atoms",
        "−3.20 GPa",
        "1.602  3.204  4.807 GPa",
    ):
        assert expected in words, expected
    assert "and 2 more structures" in words
    known = predicted(bulk("Si", "diamond", a=5.43, cubic=True))
    known.info |= {"energy_std": 0.08, "extrapolation": "edge"}
    known.arrays["forces_std"] = np.full(8, 0.02)
    prediction_picture(tmp_path / "errors.png", [known])
    words = texts(figures[1])
    for expected in ("−5.4321 ± 0.0100 eV", "± 0.0200 eV/Å", "edge"):
        assert expected in words, expected
    with pytest.raises(ValueError, match="structures"):
        prediction_picture(tmp_path / "none.png", [])


def test_formats_and_places(tmp_path: Path) -> None:
    """PNG, SVG and PDF; anything else, and a place that cannot be written, is an error that leaves nothing behind."""
    for kind, start in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        parity(tmp_path / f"p.{kind}", [1.0, 2.0], [1.0, 2.1], "energy, eV/atom")
        assert (tmp_path / f"p.{kind}").read_bytes().startswith(start)
    (tmp_path / "file").write_text("x")
    before = sorted(tmp_path.iterdir())
    for place in (tmp_path / "p.bmp", tmp_path / "file" / "p.png", tmp_path):
        with pytest.raises(OutputError, match=str(place)):
            parity(place, [1.0, 2.0], [1.0, 2.1], "energy, eV/atom")
    assert sorted(tmp_path.iterdir()) == before


def test_no_global_state_is_used(tmp_path: Path) -> None:
    """matplotlib.pyplot, with its registry of figures and choice of a window system, is not even imported."""
    import subprocess

    code = (
        "import sys; from ase.build import bulk\n"
        "from mlanet.plots import parity; from mlanet.structure_plots import structure_picture\n"
        f"structure_picture({str(tmp_path / 's.png')!r}, bulk('Si'), [[0, 0, 1.0], [0, 0, 0]])\n"
        f"parity({str(tmp_path / 'p.png')!r}, [1.0, 2.0], [1.0, 2.1], 'energy, eV')\n"
        "assert 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("count", [3, 40])
def test_a_calibration_of_many_elements_can_be_read(tmp_path: Path, figures: list[Figure], count: int) -> None:
    """Few elements have a curve each, many a symbol each; forces that symmetry forbids do not stretch the axes."""
    errors = np.random.default_rng(0).uniform(0.05, 0.2, size=(30, 2))
    one, nothing = calibration(errors), calibration(1e-9 + 0 * errors)
    assert one is not None and nothing is not None
    elements = {symbol: one for symbol in chemical_symbols[1 : count + 1]} | {"U": nothing}
    calibration_picture(
        tmp_path / "a.png", LimitsReport({"inside": 30}, {"forces": one, "energy": one}, elements, None)
    )
    (figure,) = figures
    left = figure.axes[0]
    assert left.get_ylim()[0] > 1.0 and left.get_ylim()[1] < 1000.0
    legend = {text.get_text() for text in left.get_legend().get_texts()}
    assert legend == ({*elements} if count == 3 else {"all elements"})
    shown = {text.get_text() for text in left.texts}
    assert shown == (set() if count == 3 else {*elements} - {"U"})
    inside = left.get_window_extent()
    box = left.get_legend().get_window_extent()
    assert box.height < 0.7 * inside.height
