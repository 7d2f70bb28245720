"""Draws docs/figures/peers.png from rows in benchmarks/results: `python docs/figures.py`.

`python docs/figures.py phonons` computes and draws docs/figures/phonons.png, in less than a minute of one core. The
pictures of single pages were written by the commands that these pages name.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

ROOT = Path(__file__).parents[1]
SPEED = ROOT / "benchmarks/results/run_three_layers_one_core/compare.csv"
ERRORS = ROOT / "benchmarks/results/compare_peers_mlearn_Si_cpu.csv"
COLOURS = {"MLANet": "#2166ac", "LEIGNN": "#1b7837", "MACE": "#b2182b", "NequIP": "#e08214", "PaiNN": "#762a83"}

BELOW = ("MLANet 2", "NequIP 1")
"""Labels that go below their point, where two points are close."""


def rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file."""
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def family(model: str) -> str | None:
    """What a model of the rows is called in the picture; None for one that is not shown."""
    if "message=full" in model or "full" in model.partition("@")[0]:
        return None
    names = {"mlanet": "MLANet", "leignn": "LEIGNN", "mace": "MACE", "nequip": "NequIP", "painn": "PaiNN"}
    return next((shown for start, shown in names.items() if model.startswith(start)), None)


def speeds(axes: Axes) -> None:
    """Time of energy, forces and stress against l_max."""
    points: dict[str, list[tuple[int, float]]] = {}
    for row in rows(SPEED):
        name = family(row["model"])
        if name and row["mode"] == "infer" and row["ms"]:
            points.setdefault(name, []).append((int(row["l_max"] or 1), float(row["ms"])))
    for name in COLOURS:
        degrees, times = zip(*sorted(points[name]), strict=True)
        axes.plot(degrees, times, "o-", color=COLOURS[name], label=name)
    axes.set(xlabel="l_max", ylabel="energy, forces and stress, ms", yscale="log", xticks=[1, 2, 3])
    axes.set_title("LiCoO₂, 96 atoms, one CPU core", fontsize=11)


def errors(axes: Axes) -> None:
    """Force error against energy error after four minutes of one core."""
    for row in rows(ERRORS):
        name = family(row["model"])
        if name and row["budget"] == "240 s":
            point = float(row["energy_mae_meV_per_atom"]), float(row["forces_mae_meV_per_A"])
            axes.plot(*point, "o", color=COLOURS[name])
            degree = "" if name == "LEIGNN" else row["model"].partition("l_max=")[2][:1] or row["model"][8]
            label = f"{name} {degree}".strip()
            axes.annotate(label, point, (5, -13 if label in BELOW else 5), textcoords="offset points", fontsize=9)
    axes.set(xlabel="energy error, meV/atom", ylabel="force error, meV/Å", xlim=(0, 17), ylim=(30, 115))
    axes.set_title("silicon, 4 minutes of one core (number: l_max)", fontsize=11)


def phonons() -> None:
    """Bands of five crystals by the packaged model, as `mlanet phonon` computes them."""
    import ase.io
    from ase.build import bulk

    import mlanet
    from mlanet.properties import phonons as phonons_of
    from mlanet.properties.plots import draw_bands

    crystals = {
        "Si": bulk("Si", "diamond", a=5.47),
        "MgO": bulk("MgO", "rocksalt", a=4.26),
        "NaCl": bulk("NaCl", "rocksalt", a=5.70),
        "Al": bulk("Al", "fcc", a=4.04),
        "LiCoO₂": ase.io.read(ROOT / "mlanet/examples/licoo2.cif"),
    }
    calculator = mlanet.MLANetCalculator(dtype="float64")
    figure = plt.figure(figsize=(12.5, 2.9), layout="constrained")
    panels = figure.subplots(1, len(crystals), width_ratios=[1, 1, 1, 1, 1.6])
    for axes, (name, crystal) in zip(panels, crystals.items(), strict=True):
        crystal.calc = calculator
        found = phonons_of(crystal)
        draw_bands(axes, found, name)
        axes.tick_params(labelsize=7)
        print(name, found.numbers)
    panels[0].set_ylabel("frequency, THz")
    figure.savefig(ROOT / "docs/figures/phonons.png", dpi=110, metadata={"Software": None})


def main() -> None:
    """Write the picture."""
    if sys.argv[1:] == ["phonons"]:
        phonons()
        return
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.8), layout="constrained")
    speeds(left)
    errors(right)
    left.legend(frameon=False, ncols=2, fontsize=9)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    figure.savefig(ROOT / "docs/figures/peers.png", dpi=130, metadata={"Software": None})


if __name__ == "__main__":
    main()
