"""Pictures of structures: atoms in their cell, forces as arrows, what is expected of their errors, and the numbers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlanet.data.write import true_results
from mlanet.plain import literal
from mlanet.plots import GREY, INK, RED, new_figure, save, short
from mlanet.units import EV_PER_CUBIC_ANGSTROM_IN_GPA

if TYPE_CHECKING:
    from ase import Atoms
    from ase.visualize.plot import Matplotlib
    from matplotlib.axes import Axes

VISIBLE_FORCE = 1e-4
"""eV/Å; smaller ones are rounding in float32."""
LONGEST_ARROW = 1.6
"""Å on the page for the largest force."""
VIEW = "-78x,18y,4z"
"""Slightly from the side and above, so that atoms behind each other can be told apart."""
SMALLEST_VIEW = 4.0
"""Å."""
MOST_STRUCTURES = 6
"""On one page."""


class _Numbers(NamedTuple):
    """What a page says of one structure."""

    title: str
    lines: list[tuple[str, str]]


def structure_picture(
    path: str | os.PathLike[str], atoms: Atoms, forces: ArrayLike | None = None, title: str = ""
) -> None:
    """A structure in its cell, with forces as arrows and a note that says how long an arrow is.

    Where the atoms carry `forces_std` (N,) eV/Å, outlines are coloured by it.

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
    if "forces_std" in atoms.arrays:
        _outline(axes, view, atoms.arrays["forces_std"])
    if forces is not None:
        _draw_arrows(axes, view.to_image_plane_positions, atoms, np.asarray(forces, dtype=np.float64))
    _element_legend(axes, atoms)


def _outline(axes: Axes, view: Matplotlib, errors: NDArray[np.float64]) -> None:
    """Outlines by the error to be expected of each atom's force, with a bar that says how large it is.

    errors: (N,) eV/Å
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.patches import Circle

    colors = ScalarMappable(Normalize(0.0, float(errors.max())), "YlOrRd")
    backmost_first = [atom for atom in np.argsort(view.positions[:, 2]) if atom < len(errors)]
    circles = [patch for patch in axes.patches if isinstance(patch, Circle)]
    if len(circles) != len(errors):  # sites that several elements share are drawn as wedges
        return
    for circle, atom in zip(circles, backmost_first, strict=True):
        circle.set(linewidth=2.4, edgecolor=colors.to_rgba(errors[atom : atom + 1])[0])
    bar = axes.figure.colorbar(colors, ax=axes, shrink=0.5, aspect=24, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, labelcolor=INK, color=GREY)
    bar.set_label("expected error of a force, eV/Å", fontsize=8, color=INK)


def _draw_arrows(axes: Axes, project: object, atoms: Atoms, forces: NDArray[np.float64]) -> None:
    """Forces as arrows from the atoms, all to one scale; the picture grows to hold them."""
    from matplotlib.patheffects import withStroke

    assert callable(project)
    largest = float(np.linalg.norm(forces, axis=1).max())
    axes.text(
        *(0.5, -0.01),
        f"longest arrow: {short(largest)} eV/Å" if largest > VISIBLE_FORCE else "all forces vanish",
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
    errors = atoms.arrays.get("forces_std")
    lines = [
        ("energy", f"{energy:.4f} eV"),
        ("per atom", f"{energy / len(atoms):.4f}{_error(atoms.info.get('energy_std'), len(atoms))} eV"),
        ("largest force", f"{short(float(np.linalg.norm(forces, axis=1).max()))} eV/Å"),
    ]
    if errors is not None:
        lines.append(("largest error", f"± {short(float(errors.max()))} eV/Å, expected of a component"))
    if "extrapolation" in atoms.info:
        lines.append(("training set", str(atoms.info["extrapolation"])))
    if "stress" in said:
        stress = said["stress"] * EV_PER_CUBIC_ANGSTROM_IN_GPA
        lines.append(("pressure", f"{short(-float(stress[:3].mean()))} GPa"))
        lines.append(("stress xx yy zz", _row(stress[:3]) + " GPa"))
        lines.append(("stress yz xz xy", _row(stress[3:]) + " GPa"))
    else:
        lines.append(("stress", "not defined (not periodic)"))
    if "dipole" in said:
        lines.append(("dipole x y z", _row(said["dipole"]) + " e Å"))
    if "polarizability" in said:
        lines.append(("mean polarizability", f"{short(said['polarizability'].trace() / 3)} Å³"))
    heading = f"{atoms.get_chemical_formula('metal')}, {len(atoms)} atom{'s' if len(atoms) > 1 else ''}"
    source = [("from", literal(title if len(title) <= 40 else f"…{title[-39:]}"))] if title else []
    return _Numbers(heading, [*source, *lines])


def _error(total: float | None, n_atoms: int) -> str:
    """What follows an energy per atom whose error is known."""
    return "" if total is None else f" ± {short(total / n_atoms)}"


def _row(numbers: NDArray[np.float64]) -> str:
    """Three decimals, and no minus before a zero."""
    return "  ".join(f"{round(float(number), 3) + 0.0:.3f}" for number in numbers)


def _draw_numbers(axes: Axes, numbers: _Numbers) -> None:
    """A heading and a column of names and values."""
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.text(0.0, 0.88, literal(numbers.title), fontsize=13, fontweight="bold", color=INK)
    for line, (name, value) in enumerate(numbers.lines):
        height = 0.74 - line * min(0.105, 0.84 / len(numbers.lines))
        axes.text(0.0, height, name, fontsize=9.5, color=GREY)
        axes.text(0.33, height, value.replace("-", "\u2212") if name != "from" else value, fontsize=9.5, color=INK)
