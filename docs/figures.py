"""Pictures of the documentation, each by its name: `python docs/figures.py peers phonons predict …`; `all` for all.

- `peers`, `finetune` and `distil` draw rows in benchmarks/results, `sweep` and `profile` take their picture from a
  report there.
- Those of `PAGES` are what the commands of a tutorial write: they are run as the page prints them, in a folder that is
  removed. `phonons`, `relax` and `select` compute and draw.
- `ghosts`, `batches` and `parts` are drawn by schematics.py beside this file.
- `calibration` needs MLANET_BENCHMARK_DATA, a folder with the file that it names.

Pictures of the models' pages were written by the commands that these pages name, `accuracy.png` by
`python benchmarks/accuracy report`.
"""

from __future__ import annotations

import base64
import csv
import os
import re
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from schematics import batches, ghosts, parts

ROOT = Path(__file__).parents[1]
SPEED = ROOT / "benchmarks/results/run_three_layers_one_core/compare.csv"
ERRORS = ROOT / "benchmarks/results/compare_peers_mlearn_Si_cpu.csv"
COLOURS = {"MLANet": "#2166ac", "LEIGNN": "#1b7837", "MACE": "#b2182b", "NequIP": "#e08214", "PaiNN": "#762a83"}

FROM_SCRATCH, TUNED = "muon 5e-3", "muon 1e-3"
"""Optimisers of the trainings from scratch and of the fine-tuning that are shown."""

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


PAGES = {
    "predict": ("tutorial_predict", "out.png", ()),
    "md": (
        "tutorial_md",
        "md/md_summary.png",
        ("mlanet md silicon.cif --ensemble nve --temperature 600 --time 2 --repeat 2x2x2 --output md",),
    ),
    "eos": ("tutorial_properties", "eos/silicon.png", ("mlanet eos silicon.cif",)),
    "barrier": ("tutorial_barriers", "neb/barrier.png", ("mlanet neb aluminium.cif --repeat 2x2x2 --vacancy 0",)),
    "training": (
        "tutorial_train",
        "runs/first/learning_curve.png",
        (
            "mlanet data split all.extxyz --sizes 0.5,0.25,0.25 --by-group --output split/",
            "mlanet train config.yaml budget.minutes=null budget.steps=400 budget.validate_every=20",
        ),
    ),
}
"""Picture -> its page, the file that becomes it, and the commands; none: those of the page until the file is there."""


def of_page(name: str) -> None:
    """A picture that the commands of a tutorial write."""
    page, made, commands = PAGES[name]
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(python|sh|yaml)\n(.*?)^```", text, flags=re.M | re.S)
    if commands:
        given = [block for language, block in blocks if language == "python"][:1]
        Path("config.yaml").write_text("".join(block for language, block in blocks[:9] if language == "yaml"))
        blocks = [*(("python", block) for block in given), ("sh", "\n".join(commands))]
    session: dict[str, object] = {"__name__": page}
    for language, block in blocks:
        if language == "python":
            exec(compile(block, page, "exec"), session)
        for line in block.splitlines() if language == "sh" else ():
            if not Path(made).exists():
                run(line)
    shutil.copy(made, ROOT / f"docs/figures/{name}.png")


def run(line: str) -> None:
    """One command of mlanet."""
    from mlanet.cli.main import main as mlanet

    if mlanet(shlex.split(line.split(" #")[0])[1:]):
        raise SystemExit(f"failed: {line}")


def sweep() -> None:
    """Learning curves of a sweep that was run on ethanol."""
    from_report(ROOT / "benchmarks/results/sweep_rmd17_ethanol_cpu/report.html", 0, "sweep")


def profile() -> None:
    """Time and memory of networks against l_max."""
    from_report(ROOT / "benchmarks/results/profile_two_layers_cpu/compare.html", 1, "profile")


def from_report(report: Path, number: int, name: str) -> None:
    """One of the pictures that a report in HTML holds."""
    found = re.findall(r"data:image/svg\+xml;base64,([^\"]+)", report.read_text(encoding="utf-8"))
    (ROOT / f"docs/figures/{name}.svg").write_bytes(base64.b64decode(found[number]))


def distil() -> None:
    """Errors of `universal` on labels held back, stage by stage of its distillation."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 2.9), layout="constrained")
    before = 0.0
    for stage, colour in zip(("first", "second", "third"), ("#2166ac", "#1b7837", "#e08214"), strict=True):
        found = rows(ROOT / f"benchmarks/results/universal/training_{stage}.csv")
        minutes = [before + float(row["minutes"]) for row in found]
        left.plot(
            minutes, [1000 * float(row["valid_energy_mae"]) for row in found], color=colour, label=f"{stage} stage"
        )
        right.plot(minutes, [1000 * float(row["valid_forces_mae"]) for row in found], color=colour)
        before = minutes[-1]
    left.set(xlabel="minutes of one core", ylabel="energy error, meV/atom", yscale="log")
    right.set(xlabel="minutes of one core", ylabel="force error, meV/Å", yscale="log")
    left.legend(frameon=False)
    save(figure, "distil")


def finetune() -> None:
    """Errors of the fine-tuned packaged model and of a training from scratch, by the number of new structures."""
    figure, axes = plt.subplots(1, 2, figsize=(8.4, 2.9), layout="constrained", sharey=True)
    table = rows(ROOT / "benchmarks/results/finetune_cpu.csv")
    kinds = {"from scratch": "from scratch", "fine-tuned": "fine-tuned", "fine-tuned, half old data": "half old data"}
    for place, name in zip(axes, ("Si (mlearn)", "Li6PS5Cl at 600 K"), strict=True):
        mine = [row for row in table if row["set"] == name and row["judged_on"].startswith("new")]
        (before,) = (float(row["forces_mae_meV_per_A"]) for row in mine if row["training"] == "before")
        place.axhline(before, color="#999999", linestyle=":", label="before")
        for training, label in kinds.items():
            optimizer = FROM_SCRATCH if training == "from scratch" else TUNED
            usual = [row for row in mine if row["training"] == training and row["optimizer"] == optimizer]
            points = {int(row["structures"]): float(row["forces_mae_meV_per_A"]) for row in usual}
            place.plot(*zip(*sorted(points.items()), strict=True), marker="o", markersize=4, label=label)
        place.set(title=name, xlabel="new structures", xlim=(0, None), ylim=(0, None))
    axes[0].set_ylabel("force error, meV/Å")
    axes[0].legend(frameon=False, ncols=2, fontsize=8, loc="lower left")
    save(figure, "finetune")


def relax() -> None:
    """Energy and largest force of the crystals of the tutorial, step by step."""
    from ase.build import bulk

    import mlanet
    from mlanet.workflows.relax import relaxation

    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 2.9), layout="constrained")
    calculator = mlanet.MLANetCalculator(dtype="float64")
    for a, colour in ((5.3, "#2166ac"), (5.6, "#e08214")):
        silicon = bulk("Si", "diamond", a=a)
        silicon.rattle(0.05, seed=0)
        silicon.calc = calculator
        steps = list(relaxation(silicon, cell="full", fmax=0.005))
        numbers = [step.number for step in steps]
        left.plot(numbers, [step.energy / len(silicon) for step in steps], ".-", color=colour, label=f"from a = {a} Å")
        right.plot(numbers, [step.force for step in steps], ".-", color=colour)
    left.set(xlabel="step", ylabel="energy, eV/atom")
    right.set(xlabel="step", ylabel="largest force, eV/Å", yscale="log")
    right.axhline(0.005, color="grey", lw=0.8, ls="--")
    left.legend(frameon=False)
    save(figure, "relax")


def select() -> None:
    """The pool of the tutorial: what was selected, by volume and by the distance of its atoms from the training set."""
    import ase.io

    page = (ROOT / "docs/tutorial_active_learning.md").read_text(encoding="utf-8")
    given, settings = (re.search(rf"^```{kind}\n(.*?)^```", page, flags=re.M | re.S) for kind in ("python", "yaml"))
    assert given is not None and settings is not None
    exec(compile(given[1], "tutorial_active_learning", "exec"), {"__name__": "page"})
    Path("train.yaml").write_text(settings[1])
    run("mlanet train train.yaml")
    run("mlanet select pool.extxyz --model round-1/model.safetensors --budget 5 --output next.extxyz")
    run("mlanet select pool.extxyz --model round-1/model.safetensors --budget 30 --output all.extxyz")
    pool, taken = ase.io.read("all.extxyz", ":"), ase.io.read("next.extxyz", ":")
    chosen = {round(float(one.positions.sum()), 4) for one in taken}
    figure, axes = plt.subplots(figsize=(5.2, 3.2), layout="constrained")
    for one in pool:
        picked = round(float(one.positions.sum()), 4) in chosen
        point = one.get_volume() / len(one), one.info["uncertainty"]
        axes.plot(*point, "o", color="#b2182b" if picked else "#bbbbbb", zorder=2 + picked)
    first = [one.get_volume() / len(one) for one in ase.io.read("first.extxyz", ":")]
    axes.axvspan(min(first), max(first), color="#2166ac", alpha=0.12, lw=0, label="volumes of the training set")
    axes.plot([], [], "o", color="#b2182b", label="selected")
    axes.set(xlabel="volume, Å³/atom", ylabel="distance from the training set", yscale="log")
    axes.legend(frameon=False, fontsize=9)
    save(figure, "select")


def calibration() -> None:
    """Errors that the packaged model expects, beside its real ones, on crystals of lithium compounds."""
    data = Path(os.environ["MLANET_BENCHMARK_DATA"]) / "crystals/li_compounds_valid.extxyz.xz"
    run(f"mlanet evaluate {data} --plots plots")
    shutil.copy("plots/calibration.png", ROOT / "docs/figures/calibration.png")


def save(figure: plt.Figure, name: str) -> None:
    """Into docs/figures, the same bytes for the same figure."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    figure.savefig(ROOT / f"docs/figures/{name}.png", dpi=110, metadata={"Software": None})
    plt.close(figure)


def peers() -> None:
    """Time against l_max, and errors after equal training."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.8), layout="constrained")
    speeds(left)
    errors(right)
    left.legend(frameon=False, ncols=2, fontsize=9)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    figure.savefig(ROOT / "docs/figures/peers.png", dpi=130, metadata={"Software": None})


DRAWN = {one.__name__: one for one in (peers, phonons, sweep, profile, finetune, distil, relax, select, calibration)}
EXPLAINED = {one.__name__: one for one in (ghosts, batches, parts)}


def main() -> None:
    """Draw what is named."""
    known = [*DRAWN, *EXPLAINED, *PAGES]
    wanted = known if sys.argv[1:] == ["all"] else sys.argv[1:]
    if not wanted or set(wanted) - set(known):
        raise SystemExit(f"name pictures: {', '.join(known)}, or all")
    for name in wanted:
        with tempfile.TemporaryDirectory() as folder:
            here = Path.cwd()
            os.chdir(folder)
            try:
                if name in EXPLAINED:
                    figure = EXPLAINED[name]()
                    figure.savefig(ROOT / f"docs/figures/{name}.png", dpi=110, metadata={"Software": None})
                else:
                    DRAWN[name]() if name in DRAWN else of_page(name)
            finally:
                os.chdir(here)


if __name__ == "__main__":
    main()
