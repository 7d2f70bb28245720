"""Pictures for people: parity of predictions and labels, learning curves, structures with their forces.

Every function writes one file (.png, .svg or .pdf), whole or not at all, and touches no global state of matplotlib.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlanet.data.write import true_results
from mlanet.errors import OutputError
from mlanet.files import write_whole
from mlanet.plain import literal
from mlanet.quantities import QUANTITIES
from mlanet.units import EV_PER_CUBIC_ANGSTROM_IN_GPA

if TYPE_CHECKING:
    from ase import Atoms
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, RED, GREY, INK = "#2166ac", "#c0392b", "#8a8f98", "#20242b"
SERIES = (BLUE, "#e08214", "#1b7837", "#762a83", RED, "#35978f", GREY)
FORMATS = ("png", "svg", "pdf")
DOTS_PER_INCH = 160
MANY_POINTS = 2000
VISIBLE_FORCE = 1e-4  # eV/Å; smaller ones are rounding in float32
"""Above this a parity plot shows densities, since dots would hide each other."""
LONGEST_ARROW = 1.6
"""Å on the page for the largest force."""
VIEW = "-78x,18y,4z"
"""Slightly from the side and above, so that atoms behind each other can be told apart."""
SMALLEST_VIEW = 4.0
"""Å."""
MOST_STRUCTURES = 6
"""On one page."""

_ERROR_PANELS: dict[str, str] = {
    "loss": "loss",
    **{one.name: f"{one.singular} error, {one.unit}{'/atom' if one.of_each_atom else ''}" for one in QUANTITIES},
}


class _Numbers(NamedTuple):
    """What a page says of one structure."""

    title: str
    lines: list[tuple[str, str]]


def parity(path: str | os.PathLike[str], reference: ArrayLike, predicted: ArrayLike, label: str) -> None:
    """Predictions against labels with the line of perfect agreement; MAE and RMSE stand in the legend.

    Args:
        path: written whole or not at all.
        reference, predicted: the same number of finite values, in the unit that `label` names.
        label: quantity and unit, as "forces, eV/Å".
    Raises:
        OutputError: a format that is not supported, or a place that cannot be written.
    """
    x, y = (np.asarray(one, dtype=np.float64).ravel() for one in (reference, predicted))
    if x.size != y.size or not x.size:
        raise ValueError(f"{label}: {x.size} labels and {y.size} predictions; expected equally many, at least one")
    figure = new_figure(5.2, 4.8)
    axes = figure.add_subplot()
    style(axes)
    low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    margin = 0.05 * (high - low) or max(1e-3 * abs(high), 1e-6)
    low, high = low - margin, high + margin
    axes.plot([low, high], [low, high], color=INK, linewidth=0.9, linestyle=(0, (5, 3)), zorder=3)
    if x.size > MANY_POINTS:
        shown = axes.hexbin(x, y, gridsize=70, bins="log", cmap="viridis", mincnt=1, extent=(low, high, low, high))
        bar = figure.colorbar(shown, ax=axes, pad=0.02, fraction=0.046)
        bar.set_label("values per cell", color=INK)
        bar.outline.set_visible(False)
    else:
        axes.scatter(x, y, s=16, color=BLUE, alpha=0.55, edgecolors="none")
    quantity, _, unit = label.partition(", ")
    error = y - x
    mae, rmse = np.abs(error).mean(), np.sqrt((error * error).mean())
    text = f"MAE   {_short(mae)} {unit}\nRMSE {_short(rmse)} {unit}\n{x.size:,} values".replace(",", "\u202f")
    _note(axes, text)
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.set_xlabel(f"reference {label}")
    axes.set_ylabel(f"predicted {label}")
    axes.set_title(quantity, loc="left", fontweight="bold", color=INK)
    _same_ticks(axes)
    save(figure, path)


def learning_curve(path: str | os.PathLike[str], rows: Sequence[Mapping[str, float | None]], x: str = "step") -> None:
    """Loss and errors in the course of a training, on logarithmic axes, one panel per quantity.

    Columns with "loss" or the name of a quantity in their names are drawn (errors in units of `mlanet.quantities`, the
    energy per atom), all others left out; so are values that are missing, not finite or not positive.

    Args:
        path: written whole or not at all.
        rows: of a training log, in order.
        x: the column to draw against.
    Raises:
        OutputError: a format that is not supported, or a place that cannot be written.
        ValueError: nothing to draw.
    """
    names = list(dict.fromkeys(name for row in rows for name in row if name != x))
    panels = {key: [name for name in names if _panel_of(name) == key] for key in _ERROR_PANELS}
    curves = {key: {name: _curve(rows, x, name) for name in chosen} for key, chosen in panels.items()}
    curves = {key: {name: one for name, one in group.items() if one[0].size} for key, group in curves.items()}
    curves = {key: group for key, group in curves.items() if group}
    if not curves:
        raise ValueError(f"no column of losses or errors with a positive value; columns: {', '.join(names) or 'none'}")
    columns = min(2, len(curves))
    figure = new_figure(4.6 * columns, 3.4 * (lines := -(-len(curves) // columns)))
    for index, (key, group) in enumerate(curves.items()):
        axes = figure.add_subplot(lines, columns, index + 1)
        style(axes)
        for number, (name, (steps, values)) in enumerate(group.items()):
            color = SERIES[number % len(SERIES)]
            marker = "o" if len(steps) < 40 else ""
            axes.plot(steps, values, color=color, linewidth=1.5, marker=marker, markersize=3, label=_series(name, key))
        axes.set_yscale("log")
        axes.set_title(_ERROR_PANELS[key], loc="left", fontweight="bold", color=INK)
        axes.set_xlabel(x.replace("_", " "))
        axes.margins(x=0.02)
        axes.legend(frameon=False, labelcolor=INK, fontsize=8)
    save(figure, path)


def structure_picture(
    path: str | os.PathLike[str], atoms: Atoms, forces: ArrayLike | None = None, title: str = ""
) -> None:
    """A structure in its cell, with forces as arrows and a note that says how long an arrow is.

    - forces (N, 3) eV/Å, or None for the structure alone; the largest force is drawn 1.6 Å long

    Raises:
        OutputError: a format that is not supported, or a place that cannot be written.
    """
    figure = new_figure(5.6, 5.4)
    axes = figure.add_subplot()
    _draw_structure(axes, atoms, forces)
    axes.set_title(literal(title or atoms.get_chemical_formula("metal")), loc="left", fontweight="bold", color=INK)
    save(figure, path)


def prediction_picture(
    path: str | os.PathLike[str], structures: Sequence[Atoms], titles: Sequence[str] | None = None
) -> None:
    """One page of predictions: every structure with its force arrows, and its numbers with units beside it.

    Args:
        path: written whole or not at all.
        structures: carry a calculator with energy, forces and, where defined, stress; the first six are shown.
        titles: one per structure, e.g. the file it came from.
    Raises:
        OutputError: a format that is not supported, or a place that cannot be written.
        ValueError: no structures, or another number of titles.
    """
    if not structures or (titles is not None and len(titles) != len(structures)):
        raise ValueError(f"{len(structures)} structures with {len(titles or [])} titles")
    shown = structures[:MOST_STRUCTURES]
    figure = new_figure(8.6, 3.6 * len(shown))
    grid = figure.add_gridspec(len(shown), 2, width_ratios=(1.0, 1.05))
    for line, atoms in enumerate(shown):
        numbers = _numbers(atoms, titles[line] if titles is not None else "")
        _draw_structure(figure.add_subplot(grid[line, 0]), atoms, atoms.get_forces(apply_constraint=False))
        _draw_numbers(figure.add_subplot(grid[line, 1]), numbers)
    if len(structures) > len(shown):
        more = f"and {len(structures) - len(shown)} more structures"
        figure.supxlabel(more, fontsize=9, color=GREY)
    save(figure, path)


def _draw_structure(axes: Axes, atoms: Atoms, forces: ArrayLike | None) -> None:
    """Atoms and cell by ASE, arrows in the same projection on top."""
    from ase.data import covalent_radii
    from ase.visualize.plot import Matplotlib

    rotation = VIEW if atoms.pbc.any() else _broadside(atoms.positions)
    # Somewhat smaller than touching spheres, so that cell, arrows and atoms behind can be seen.
    view = Matplotlib(atoms, axes, rotation=rotation, radii=0.62 * covalent_radii[atoms.numbers], scale=1)
    view.write()
    axes.set_axis_off()
    _show(axes, np.zeros((0, 2)))
    for patch in axes.patches:
        patch.set(linewidth=0.6, edgecolor=INK)
    if forces is not None:
        _draw_arrows(axes, view.to_image_plane_positions, atoms, np.asarray(forces, dtype=np.float64))
    _element_legend(axes, atoms)


def _draw_arrows(axes: Axes, project: object, atoms: Atoms, forces: NDArray[np.float64]) -> None:
    """Forces as arrows from the atoms, all to one scale; the picture grows to hold them."""
    from matplotlib.patheffects import withStroke

    assert callable(project)
    largest = float(np.linalg.norm(forces, axis=1).max())
    axes.text(
        *(0.5, -0.01),
        f"longest arrow: {_short(largest)} eV/Å" if largest > VISIBLE_FORCE else "all forces vanish",
        transform=axes.transAxes,
        ha="center",
        va="top",
        fontsize=9,
        color=RED,
    )
    if largest <= VISIBLE_FORCE:
        return
    start = project(atoms.positions)[:, :2]
    end = project(atoms.positions + forces * (LONGEST_ARROW / largest))[:, :2]
    arrow = axes.quiver(
        *start.T,
        *(end - start).T,
        angles="xy",
        scale_units="xy",
        scale=1.0,
        units="xy",
        width=0.09,
        headwidth=3.4,
        headlength=3.8,
        headaxislength=3.4,
        minlength=0.0,
        color=RED,
        zorder=5,
    )
    arrow.set_path_effects([withStroke(linewidth=1.6, foreground="white")])
    _show(axes, end)


def _show(axes: Axes, points: NDArray[np.float64]) -> None:
    """Widen the view to hold more points, and to no less than `SMALLEST_VIEW`, so that a lone atom stays an atom."""
    for low_high, column, change in (
        (axes.get_xlim(), points[:, 0], axes.set_xlim),
        (axes.get_ylim(), points[:, 1], axes.set_ylim),
    ):
        low, high = min([low_high[0], *(column - 0.2)]), max([low_high[1], *(column + 0.2)])
        missing = max(0.0, SMALLEST_VIEW - (high - low)) / 2
        change(low - missing, high + missing)


def _broadside(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rotation that shows a molecule from its broad side: longest direction to the right, shortest to the eye."""
    if len(positions) == 1:
        return np.eye(3)
    axes = np.linalg.svd(positions - positions.mean(axis=0), full_matrices=True)[2].T
    axes[:, 2] = np.cross(axes[:, 0], axes[:, 1])  # no mirror images
    return axes


def _element_legend(axes: Axes, atoms: Atoms) -> None:
    """Which colour is which element, in the colours that ASE draws with."""
    from ase.data import chemical_symbols
    from ase.data.colors import jmol_colors
    from matplotlib.lines import Line2D

    marks = [
        Line2D(
            *([], []),
            label=chemical_symbols[z],
            markerfacecolor=jmol_colors[min(z, len(jmol_colors) - 1)].tolist(),
            marker="o",
            linestyle="",
            markersize=7,
            markeredgecolor=INK,
            markeredgewidth=0.6,
        )
        for z in sorted(set(atoms.numbers.tolist()))
    ]
    axes.legend(
        handles=marks,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.05),
        ncols=min(8, len(marks)),
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        handletextpad=0.1,
        columnspacing=1.2,
    )


def _numbers(atoms: Atoms, title: str) -> _Numbers:
    """Energy, forces and stress of one structure as words."""
    said = true_results(atoms)
    energy, forces = said["energy"], said["forces"]
    lines = [
        ("energy", f"{energy:.4f} eV"),
        ("per atom", f"{energy / len(atoms):.4f} eV"),
        ("largest force", f"{_short(float(np.linalg.norm(forces, axis=1).max()))} eV/Å"),
    ]
    if "stress" in said:
        stress = said["stress"] * EV_PER_CUBIC_ANGSTROM_IN_GPA
        lines.append(("pressure", f"{_short(-float(stress[:3].mean()))} GPa"))
        lines.append(("stress xx yy zz", _row(stress[:3]) + " GPa"))
        lines.append(("stress yz xz xy", _row(stress[3:]) + " GPa"))
    else:
        lines.append(("stress", "not defined (not periodic)"))
    if "dipole" in said:
        lines.append(("dipole x y z", _row(said["dipole"]) + " e Å"))
    if "polarizability" in said:
        lines.append(("mean polarizability", f"{_short(said['polarizability'].trace() / 3)} Å³"))
    heading = f"{atoms.get_chemical_formula('metal')}, {len(atoms)} atom{'s' if len(atoms) > 1 else ''}"
    source = [("from", literal(title if len(title) <= 40 else f"…{title[-39:]}"))] if title else []
    return _Numbers(heading, [*source, *lines])


def _row(numbers: NDArray[np.float64]) -> str:
    """Three decimals, and no minus before a zero."""
    return "  ".join(f"{round(float(one), 3) + 0.0:.3f}" for one in numbers)


def _draw_numbers(axes: Axes, numbers: _Numbers) -> None:
    """A heading and a column of names and values."""
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.text(0.0, 0.88, literal(numbers.title), fontsize=13, fontweight="bold", color=INK)
    for line, (name, value) in enumerate(numbers.lines):
        height = 0.74 - 0.105 * line
        axes.text(0.0, height, name, fontsize=9.5, color=GREY)
        axes.text(0.33, height, value.replace("-", "\u2212") if name != "from" else value, fontsize=9.5, color=INK)


def _panel_of(name: str) -> str | None:
    """Which panel a column belongs to; the loss first, since its parts may be called energy_loss."""
    return next((key for key in _ERROR_PANELS if key in name or key.removesuffix("s") in name), None)


def _series(name: str, panel: str) -> str:
    """`valid_energy_mae` in the panel of energies -> `valid mae`."""
    words = name.replace(panel, "").replace(".", "_").replace("/", "_").split("_")
    return " ".join(word for word in words if word) or panel


def _curve(rows: Sequence[Mapping[str, float | None]], x: str, name: str) -> tuple[NDArray[np.float64], ...]:
    """Steps and values of one column where both are there and the value fits a logarithmic axis."""
    pairs = [(row.get(x), row.get(name)) for row in rows]
    kept = [(float(a), float(b)) for a, b in pairs if isinstance(a, int | float) and isinstance(b, int | float)]
    array = np.array([pair for pair in kept if np.isfinite(pair).all() and pair[1] > 0]).reshape(-1, 2)
    return array[:, 0], array[:, 1]


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of its own, in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def style(axes: Axes) -> None:
    """Quiet axes: what is drawn stands out."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(which="both", color=GREY, labelcolor=INK, labelsize=9)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.grid(True, color="#e6e8eb", linewidth=0.7)
    axes.set_axisbelow(True)


def _note(axes: Axes, text: str) -> None:
    box = {"boxstyle": "round,pad=0.4", "facecolor": "white", "edgecolor": "#d5d8dc", "alpha": 0.95}
    axes.text(0.04, 0.96, text, transform=axes.transAxes, va="top", fontsize=9, color=INK, bbox=box, zorder=6)


def _same_ticks(axes: Axes) -> None:
    """Both directions of a parity plot carry the same ticks."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_locator(MaxNLocator(6))


def _short(number: float) -> str:
    """Three significant digits, without an exponent where people would not write one."""
    plain = number == 0 or 1e-3 <= abs(number) < 1e5
    digits = max(0, 2 - int(np.floor(np.log10(abs(number))))) if plain and number else 0
    return f"{number:.{digits}f}" if plain else f"{number:.2e}"


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Draw into memory, then write the file in one step."""
    kind = Path(path).suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise OutputError(f"{path}: pictures are written as {', '.join('.' + one for one in FORMATS)}")
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=DOTS_PER_INCH)
    try:
        write_whole(path, buffer.getvalue())
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}; nothing was changed") from error
