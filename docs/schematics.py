"""Pictures that explain, drawn from nothing but lines and words: `python docs/figures.py ghosts batches parts`."""

from __future__ import annotations

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle

BLUE, ORANGE, GREEN, GREY = "#2166ac", "#e08214", "#1b7837", "#666666"
PALE = {BLUE: "#dbe7f3", ORANGE: "#fbe6cc", GREEN: "#dcefe1", GREY: "#eeeeee"}


USES = (
    "train, resume, fine-tune, sweep",
    "predict, relax, dynamics, phonons",
    "ASE calculator, LAMMPS",
    "physical consistency checks",
    "profile of time and memory",
)
"""What works with any model."""


def box(axes: Axes, at: tuple[float, float], size: tuple[float, float], text: str, colour: str) -> None:
    """A box with its centre there."""
    corner = at[0] - size[0] / 2, at[1] - size[1] / 2
    look = {"boxstyle": "round,pad=0,rounding_size=0.08", "ec": colour, "fc": PALE[colour], "lw": 1.2}
    axes.add_patch(FancyBboxPatch(corner, *size, **look))
    axes.text(*at, text, ha="center", va="center_baseline", fontsize=9, linespacing=1.35)


def arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str = GREY, both: bool = False
) -> None:
    """From one point to another."""
    style = "<|-|>" if both else "-|>"
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle=style, mutation_scale=11, color=colour, lw=1.2, shrinkA=0))


def ghosts() -> Figure:
    """Atoms of two processes with the ghosts of one, and what they exchange in a step of two layers."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.2, 3.5), layout="constrained", width_ratios=[1, 1.65])
    _halves(left)
    _exchange(right)
    return figure


def _halves(axes: Axes) -> None:
    """A box in two halves; the ghosts of the left process lie within one cutoff of its half."""
    reach = 1.05
    axes.add_patch(Rectangle((3, 0), reach, 4, fc=PALE[BLUE], ec="none"))
    axes.plot([3, 3], [0, 4], color=GREY, lw=1.2, ls="--")
    random = np.random.default_rng(4)
    grid = np.stack(np.meshgrid(np.arange(0.3, 6, 0.6), np.arange(0.3, 4, 0.6)), axis=-1).reshape(-1, 2)
    for x, y in grid + random.uniform(-0.09, 0.09, grid.shape):
        ghost = 3 < x < 3 + reach
        axes.add_patch(Circle((x, y), 0.13, fc=BLUE if x < 3 else ORANGE, ec=BLUE if ghost else "none", lw=2))
    arrow(axes, (3, 4.2), (3 + reach, 4.2), BLUE, both=True)
    axes.text(3 + reach / 2, 4.36, "one cutoff", ha="center", fontsize=9, color=BLUE)
    axes.text(1.2, 4.28, "process 0", ha="center", fontsize=10, color=BLUE)
    axes.text(5.2, 4.28, "process 1", ha="center", fontsize=10, color=ORANGE)
    axes.text(3, -0.42, "ringed: atoms of process 1, ghosts of process 0", ha="center", fontsize=9)
    _bare(axes, (-0.1, 6.1), (-0.6, 4.8))


def _exchange(axes: Axes) -> None:
    """What happens in a step, from left to right."""
    rows = {2.6: BLUE, 0.6: ORANGE}
    forward, back = ("embed", "layer 1", "layer 2", "energy"), ("layer 2", "layer 1", "forces")
    for number, name in enumerate((*forward, *back)):
        for y, colour in rows.items():
            box(axes, (1.5 * number, y), (1.0, 0.62), name, colour)
            if number:
                arrow(axes, (1.5 * number - 0.98, y), (1.5 * number - 0.52, y))
    for number, word in ((0, "features"), (1, "features"), (4, "gradients"), (5, "gradients")):
        arrow(axes, (1.5 * number + 0.75, 0.95), (1.5 * number + 0.75, 2.25), GREEN, both=True)
        axes.text(1.5 * number + 0.68, 1.6, word, ha="right", va="center", fontsize=9, color=GREEN)
    arrow(axes, (9, 0.95), (9, 2.25), GREEN, both=True)
    axes.text(9.1, 1.6, "forces of\nghosts", ha="left", va="center", fontsize=9, color=GREEN)
    axes.text(1.5, 3.3, "forward: before each layer", ha="center", fontsize=9.5)
    axes.text(6.9, 3.3, "backward: after each layer", ha="center", fontsize=9.5)
    axes.text(
        4.5,
        -0.2,
        "Each energy is that of a process's own atoms; forces of ghosts go to their owners.",
        ha="center",
        fontsize=9,
    )
    _bare(axes, (-0.7, 10.15), (-0.45, 3.6))


def batches() -> Figure:
    """A step of a training on four GPUs."""
    figure, axes = plt.subplots(figsize=(9.6, 3.1), layout="constrained")
    box(axes, (0.6, 1.5), (1.35, 1.0), "training set,\nshuffled", GREY)
    for number in range(4):
        y = 2.85 - 0.9 * number
        box(axes, (2.75, y), (1.25, 0.6), f"batch {number + 1}", GREEN)
        box(axes, (5.1, y), (2.15, 0.6), f"GPU {number}: loss, gradient", BLUE)
        arrow(axes, (1.3, 1.5), (2.1, y))
        arrow(axes, (3.4, y), (4.0, y))
        arrow(axes, (6.2, y), (6.85, 1.5 + 0.12 * (1.5 - number)))
    box(axes, (7.65, 1.5), (1.55, 1.0), "mean gradient\nof all four", GREEN)
    box(axes, (9.85, 1.5), (1.7, 1.0), "the same step\non every GPU", BLUE)
    arrow(axes, (8.45, 1.5), (8.98, 1.5))
    _bare(axes, (-0.15, 10.8), (-0.25, 3.25))
    return figure


def parts() -> Figure:
    """What a model is made of, and what uses it."""
    figure, axes = plt.subplots(figsize=(9.6, 3.5), layout="constrained")
    axes.text(1.2, 3.65, "you write", ha="center", fontsize=10.5, color=GREEN)
    axes.text(4.8, 3.65, "the package makes of it", ha="center", fontsize=10.5, color=BLUE)
    axes.text(8.55, 3.65, "and all of this works", ha="center", fontsize=10.5, color=GREY)
    box(axes, (1.2, 2.75), (2.3, 1.0), "configuration:\nkeys, cutoff, build", GREEN)
    box(axes, (1.2, 1.1), (2.3, 1.4), "forward:\nAtomicGraph →\nenergy of each atom", GREEN)
    words = "Potential\n\nE = Σ (scale · E_i + E₀)\nF = −∂E/∂R\nσ = (1/V) ∂E/∂ε\n\nsums in float64,\nbatches, devices"
    box(axes, (4.8, 1.85), (2.5, 2.9), words, BLUE)
    for number, use in enumerate(USES):
        y = 3.05 - 0.6 * number
        box(axes, (8.55, y), (3.3, 0.46), use, GREY)
        arrow(axes, (6.07, 1.85), (6.87, y))
    arrow(axes, (2.37, 2.75), (3.52, 2.3))
    arrow(axes, (2.37, 1.1), (3.52, 1.5))
    _bare(axes, (-0.05, 10.3), (0.25, 3.9))
    return figure


def _bare(axes: Axes, x: tuple[float, float], y: tuple[float, float]) -> None:
    """Nothing but the drawing, in equal scales."""
    axes.set(xlim=x, ylim=y, aspect="equal")
    axes.axis("off")
