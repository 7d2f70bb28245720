"""Benchmarks run; their figures are not judged here."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import ase.io
import msgspec
import pytest
import torch
from ase.build import bulk

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "benchmarks"))

import run as everybody  # noqa: E402
from accuracy.groups import Group  # noqa: E402
from accuracy.plan import of_equal_time, read, row_of, trainings  # noqa: E402
from accuracy.report import TABLES, percent  # noqa: E402
from floors import cost, flops_in_triton  # noqa: E402
from goals import FROM_ATOMS, Goal, Side, goals, judge, of_growth, of_kernels  # noqa: E402
from lineup import COMPILED, Contender, Sizes, lineup  # noqa: E402
from peers import PEERS  # noqa: E402

from mlanet.nn.dual_path import DualPathAttention  # noqa: E402
from mlanet.potential import Potential  # noqa: E402
from mlanet.profiling.compare import neighbours_of, species_of  # noqa: E402
from mlanet.profiling.measurement import Measurement  # noqa: E402
from mlanet.profiling.ours import configuration, own  # noqa: E402
from mlanet.profiling.subject import Request  # noqa: E402
from mlanet.profiling.systems import system  # noqa: E402
from mlanet.statistics import Statistics  # noqa: E402

pytestmark = pytest.mark.usefixtures("forks")


def run(script: str, *words: str) -> str:
    command = [sys.executable, str(ROOT / "benchmarks" / script), *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, check=True, env=environment, capture_output=True, text=True).stdout


@pytest.mark.slow
def test_accuracy_of_switches_is_measured_whatever_interrupts_it(tmp_path: Path) -> None:
    """Killed in a training, the queue leaves no process behind, and goes on from the checkpoint.

    A row for each variant, and for the variant that is given the time of the other; then a picture.
    """
    words = [sys.executable, str(ROOT / "benchmarks" / "accuracy"), "run", "demo"]
    words += ["--work", str(tmp_path / "work"), "--results", str(tmp_path / "results")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL) as queue:
        deadline = time.monotonic() + 300
        while not list(tmp_path.glob("work/demo-*/training/checkpoint.safetensors")) and time.monotonic() < deadline:
            time.sleep(0.02)
        queue.send_signal(signal.SIGKILL)
    (first,) = tmp_path.glob("work/demo-*/training/log.jsonl")
    subprocess.run(words, check=True, env=environment, capture_output=True)
    assert "resumed" in [json.loads(line)["event"] for line in first.read_text().splitlines()]
    rows = [json.loads(line) for line in (tmp_path / "results" / "rows.jsonl").read_text().splitlines()]
    expected = [("tp_dot", "steps"), ("none", "steps"), ("none", "time")]
    assert [(row["variant"], row["budget"]) for row in rows] == [
        (f"attention={attention},combine=product", budget) for attention, budget in expected
    ]
    for row in rows:
        assert row["status"] == "done" and row["processor_s"] > 0 and row["forces_mae_meV_per_A"] > 0 and row["commit"]
        assert (row["train"], row["test"], len(row["curve"])) == (32, 8, 2)
    run("accuracy", "report", "demo", "--results", str(tmp_path / "results"))
    assert (tmp_path / "results" / "accuracy.png").stat().st_size > 1000
    with (tmp_path / "results" / "summary.csv").open() as file:
        assert [row["seeds"] for row in csv.DictReader(file)] == ["1"] * 3


def test_accuracy_sets_leave_no_default_open() -> None:
    """A row says what it was trained with, also when a default of the package has changed since."""
    for one in read([]):
        for training in trainings(one):
            assert training.train_config(Path("data"), Path("run")).optimizer.kind in ("adamw", "muon"), training.name


def test_accuracy_differences_are_those_of_pairs() -> None:
    """Two variants of a constant ratio differ with no error, however much seeds scatter; one seed tells no error."""
    (one,) = read(["demo"])
    first, *_ = trainings(one)
    rows = {seed: {"forces": 10.0 * (seed + 1)} for seed in range(3)}
    other = {seed: {"forces": 11.0 * (seed + 1)} for seed in range(3)}
    groups = [Group(one, first.variant, "steps", each) for each in (rows, other, {1: other[1]})]
    mean, error = groups[1].against(groups[0], "forces")
    assert mean == pytest.approx(math.log(1.1)) and error == pytest.approx(0, abs=1e-12)
    assert percent(groups[2].against(groups[0], "forces")) == "+10.0 %"
    assert groups[0].mean("forces") == pytest.approx((20.0, 10 / math.sqrt(3)))


def test_accuracy_tables_hold_every_figure_once() -> None:
    """Sets with a variant in common stand side by side, five at most, others alone; no figure is lost."""
    (demo,) = read(["demo"])
    groups, figures = [], []
    for name in ("one", "alone", *(f"other {k}" for k in range(5))):
        one = msgspec.structs.replace(demo, name=name, title=name)
        variants = list(dict.fromkeys(each.variant for each in trainings(one)))
        for variant in variants[:1] if name == "alone" else variants:
            figures.append(f"{101 + len(figures)}")
            row = {"forces_mae_meV_per_A": float(figures[-1]), "steps": 2, "processor_s": 1.0, "parameters": 7}
            groups.append(Group(one, variant, "steps", {0: row | {"peak_memory_MiB": 1.0}}))
    text = TABLES["errors"](groups)
    assert [text.count(f"| {figure} ") for figure in figures] == [1] * len(figures)
    heads = [block.splitlines()[0] for block in text.split("\n\n")]
    assert heads == [
        "| forces, meV/Å | seeds | one | other 0 | other 1 | other 2 | other 3 |",
        "| alone | seeds | forces, meV/Å |",
        "| other 4 | seeds | forces, meV/Å |",
    ]
    assert TABLES["costs"](groups).count("\n") == 2 + 7  # the first variant of each set


def test_accuracy_gives_the_cheaper_variant_the_steps_of_the_time() -> None:
    """As soon as all seeds of both are known, and not before; each beside the same optimiser's."""
    muon = [{"attention": kind, "combine": "product", "optimizer.kind": "muon"} for kind in ("tp_dot", "none")]
    also = ({"attention": "tp_dot", "combine": "sum"}, *muon)
    one = msgspec.structs.replace(read(["demo"])[0], seeds=(0, 1), also=also)
    seconds = {"tp_dot product": 6.0, "none product": 4.0, "tp_dot sum": 9.0}
    seconds |= {"tp_dot product muon": 10.0, "none product muon": 5.0}
    rows = [
        each.key | {"status": "done", "processor_s": seconds[" ".join(value for _, value in each.variant)]}
        for each in trainings(one)
    ]
    later = of_equal_time(one, rows)
    assert [(each.seed, each.steps, " ".join(dict(each.variant).values())) for each in later] == [
        (0, 6, "none product"),
        (1, 6, "none product"),
        (0, 8, "none product muon"),
        (1, 8, "none product muon"),
    ]
    known = [{each.steps for each in of_equal_time(one, rows[:count])} for count in (5, 7, 9, 10)]
    assert known == [set(), {6}, {6}, {6, 8}], "the last seed of a variant is waited for"
    assert row_of(trainings(one)[0]._replace(steps=5), rows) is None


@pytest.mark.slow
def test_comparison_runs(tmp_path: Path) -> None:
    """Rows for a model, for a variant of it, and for one that is pre-trained with direct forces."""
    models = [
        "leignn:channels=8",
        "leignn:channels=8,update=painn",
        "leignn:channels=8,forces=direct>leignn:channels=8",
    ]
    run("compare.py", "--demo", "--steps", "4", "--models", *models, "--output", str(tmp_path))
    with (tmp_path / "compare_demo_cpu.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == models
    assert all(float(row["stress_mae_GPa"]) > 0 and row["steps"] == "4" for row in rows)


@pytest.mark.slow
def test_forecasts_are_judged(tmp_path: Path) -> None:
    """A row for a configuration and one for a set of batches; no batch above its limit."""
    run("forecast.py", "--count", "1", "--runs", "1", "--seed", "3", "--output", str(tmp_path))
    with (tmp_path / "forecast_cpu.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert abs(float(row["error"])) < 0.2 and float(row["counted_MiB"]) > 1
    with (tmp_path / "batches_cpu.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["exceeded"] == "0" and 0.2 < float(row["fullest"]) <= 1


EVERYBODY = ["run.py", "--quick", "--peers", "--degrees", "1", "--kernels", "plain", "nonsense"]


@pytest.fixture
def everything(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """The benchmark of everybody with MLANet alone, called in this process."""

    def few(*given: object) -> list[Contender]:
        return [one for one in lineup(*given) if one.family == "mlanet"]  # type: ignore[arg-type]

    def inner(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", [*EVERYBODY, *words])
        return everybody.main()

    monkeypatch.setattr(everybody, "lineup", few)
    before = signal.getsignal(signal.SIGTERM)
    yield inner
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def stopped_in_the_second(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], int]], int]:
    """Call something that is sent SIGTERM when the second system has its first figures."""
    right = everybody.Run.save

    def save(run: everybody.Run) -> None:
        right(run)
        if run.complete and len({row.system for row in run.rows}) == 2:
            signal.raise_signal(signal.SIGTERM)

    def inner(call: Callable[[], int]) -> int:
        with monkeypatch.context() as patch:
            patch.setattr(everybody.Run, "save", save)
            return call()

    return inner


@pytest.mark.slow
def test_everything_against_everybody(
    tmp_path: Path,
    everything: Callable[..., int],
    stopped_in_the_second: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Stopped in its second system, a run goes on with that, keeps the first, and names goals it cannot judge.

    Kernels that do not exist are rows with the reason. A folder with another run in it is not touched.
    """
    output = ["--output", str(tmp_path)]
    assert stopped_in_the_second(lambda: everything(*output)) == 130
    assert "goes on from" in capsys.readouterr().err
    document = tmp_path / "compare.json"
    before = json.loads(document.read_text())
    assert before["facts"]["complete"] == ["Si:8"]

    assert everything(*output) == 0
    found = json.loads(document.read_text())
    rows = [Measurement.of(row) for row in found["rows"]]
    assert found["facts"]["complete"] == ["Si:8", "CO2:12"]
    assert found["rows"][:4] == [row for row in before["rows"] if row["system"] == "Si:8"]
    assert [row.mode for row in rows] == ["infer", "train"] * 4
    failed = [row for row in rows if row.failure]
    assert all("nonsense" in row.model and "is none of" in row.failure for row in failed) and len(failed) == 4
    assert all(row.ms and row.tensor_MiB for row in rows if not row.failure)
    assert "painn l=1 takes no part" in " ".join(capsys.readouterr().out.split())
    (floor,) = csv.DictReader((tmp_path / "floors.csv").open())
    assert 0 < float(floor["floor_ms"]) < float(floor["ms"])
    assert "<h1>Goals" in (tmp_path / "goals.html").read_text()

    assert everything(*output, "--systems", "Xx:5") == 2
    assert "cannot run: system 'Xx:5': expected" in capsys.readouterr().err
    assert everything(*output, "--rounds", "2") == 2
    assert "differs in rounds" in capsys.readouterr().err


@pytest.mark.slow
def test_growth_of_a_gpu_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The part for GPUs, on this CPU and to 200 atoms: its tables are written and its goals judged."""
    words = ["run.py", "--quick", "--peers", "--degrees", "2", "--kernels", "plain", "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.setattr(everybody, "LARGEST", 200)
    million, flat = everybody._growth(everybody.Run(everybody._options()))
    assert (million.reached, million.worst, flat.reached) == ("no", 0.0, "not measured")
    rows = list(csv.DictReader((tmp_path / "growth.csv").open()))
    assert [row["atoms"] for row in rows] == ["96", "192"] and all(float(row["us_per_atom"]) > 0 for row in rows)
    assert "Growth with atoms" in (tmp_path / "growth.html").read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_a_run_on_one_says_so(tmp_path: Path) -> None:
    """In a sentence, before anything is measured."""
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run("run.py", "--device", "cuda", "--output", str(tmp_path / "x"))
    assert caught.value.returncode == 2 and "cannot run: device 'cuda': this machine has no" in caught.value.stderr
    assert "Traceback" not in caught.value.stderr and not (tmp_path / "x").exists()


def test_everybody_takes_part_at_equal_size() -> None:
    """Channels, layers and degree reach every name, ours can be parsed, and no name stands twice."""
    found = lineup((1, 2, 3), ("plain", "fused"), ("mace", "painn", "tensornet"), Sizes(16, 2), accelerated=True)
    names = [one.name for one in found]
    assert len(names) == len(set(names)) == 3 * 4 + 2 + 3 * 2 + 2
    assert names[0] == "mlanet_l1:irreps=16x0e+16x1o,layers=2@plain"
    assert "mace:l_max=3,channels=16,layers=2,cueq=true" in names
    for one in found:
        if one.family.split()[0] in ("mlanet", "leignn"):
            config = configuration(one.name)
            assert (config.channels, config.layers) == (16, 2)
            assert one.family == "leignn" or config.l_max == one.degree
    assert lineup((2,), ("plain",), (), Sizes(), accelerated=False)[0].name == "mlanet_l2@plain"


def test_compiled_peers_take_part_when_asked() -> None:
    """Each in every compiled mode that its package has, as a family of its own; all options are ones that exist."""
    found = lineup((1, 2), ("plain",), list(PEERS), Sizes(16, 2), accelerated=False, compiled=True)
    without = lineup((1, 2), ("plain",), list(PEERS), Sizes(16, 2), accelerated=False)
    more = [one for one in found if one not in without]
    assert {one.family for one in more} == {f"{name} {mode}" for name, modes in COMPILED.items() for mode in modes}
    assert Contender("nequip:l_max=2,channels=16,layers=2,compile=true", "nequip compile", 2) in more
    assert len(found) == len(without) + len(more) == len({one.name for one in found})
    extra = {str(goal) for goal in goals(False, compiled=True)} - {str(goal) for goal in goals(False)}
    assert len(extra) == 2 * 3 + 2 * 2 and all("mace compile" in one or "nequip" in one for one in extra)
    assert not [one for one in extra if "aoti" in one and "train" in one]


def rows_of(figures: dict[str, tuple[float | None, float | None]], where: str, atoms: int = 8) -> list[Measurement]:
    found = []
    for name, (ms, memory) in figures.items():
        failure = "too slow: > 60 s" if ms is None else ""
        found.append(Measurement(name, where, "infer", atoms, ms=ms, tensor_MiB=memory, failure=failure))
    return found


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_kernels_for_gpus_do_little_more_than_they_must(degree: int) -> None:
    """By count: the operations of a forward pass are those that the equations need, and some padding."""
    potential = Potential.build(configuration(f"mlanet_l{degree}"), Statistics.unit((1,), 50.0))
    layer = potential.model.layers[0].attention
    assert 1.0 <= flops_in_triton(layer, 1000) / cost(layer, 0, 1000, 4).flops < 1.25


def test_goals_are_judged_by_the_worst_system() -> None:
    """The fastest of our kernels counts, with its own memory; a system without a figure is named, not passed over."""
    names = {"a@plain": "mlanet", "a@fused": "mlanet", "m": "mace"}
    line = [Contender(name, family, 3) for name, family in names.items()]
    rows = rows_of({"a@plain": (8.0, 50.0), "a@fused": (4.0, 90.0), "m": (80.0, 100.0)}, "s")
    rows += rows_of({"a@plain": (5.0, 10.0), "a@fused": (9.0, 1.0), "m": (55.0, 100.0)}, "t")
    faster = Goal(Side("mace", 3), Side("mlanet", 3), "ms", "infer", 10.0, True)
    leaner = Goal(Side("mlanet", 3), Side("mace", 3), "working_MiB", "infer", 0.125, False)
    found = judge(faster, rows, line, {})
    assert (found.worst, found.on, found.reached, found.missing) == (11.0, "t", "yes", "")
    assert found.typical == pytest.approx((20 * 11) ** 0.5, abs=1e-3)
    found = judge(leaner, rows, line, {})
    assert (found.worst, found.on, found.reached) == (0.9, "s", "no")

    rows += rows_of({"a@plain": (1.0, 1.0), "m": (None, None)}, "u")
    assert judge(faster, rows, line, {}).missing == "u: mace l=3: too slow: > 60 s"
    alone = judge(faster, rows[-2:], line, {})
    assert (alone.reached, alone.worst) == ("not measured", None)
    assert judge(faster, rows, line[:2], {"mace": "mace is not installed"}).missing == "mace is not installed"
    assert {str(goal.over) for goal in goals(on_gpu=True)} >= {"mace cueq l=2", "nequip oeq l=3"}


def test_goals_of_a_gpu_are_judged() -> None:
    """A growth to 1.5 million atoms at constant time per atom, one that is neither, and layers off their floor."""
    sizes = (96, FROM_ATOMS, 100_000, 1_500_000)
    rows = [Measurement("m", f"x:{n}", "infer", n, ms=n * 1e-3, us_per_atom=max(1.0, 1000 / n)) for n in sizes]
    assert [one.reached for one in of_growth("m", rows)] == ["yes", "yes"]
    rows[2].us_per_atom = 1.4
    rows[3].ms, rows[3].failure = None, "out of memory: x"
    million, flat = of_growth("m", rows)
    assert (million.reached, million.worst, flat.reached, flat.worst) == ("no", 0.1, "no", 1.4)
    assert "out of memory" in flat.missing
    layers = [{"model": "m", "system": "s", "layer": str(n), "of_floor": value} for n, value in enumerate((1.2, 2.5))]
    (found,) = of_kernels(layers)
    assert (found.worst, found.on, found.reached) == (2.5, "s, 1", "no")


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_the_floor_counts_what_torch_counts(degree: int) -> None:
    """Floating-point operations of an attention layer's forward pass within a seventh of torch's count of products."""
    from torch.utils.flop_counter import FlopCounterMode

    crystal = system("Si:64")
    subject = own(
        f"mlanet_l{degree}:layers=1,radial_hidden=[64]@plain", Request(species_of([crystal]), neighbours_of([crystal]))
    )
    graph = subject.prepare([crystal])
    with torch.no_grad(), FlopCounterMode(depth=9, display=False) as counter:
        subject.module.model(graph)
    (counted,) = (sum(one.values()) for name, one in counter.flop_counts.items() if name.endswith("0.attention"))
    (layer,) = (one for one in subject.module.modules() if isinstance(one, DualPathAttention))
    assert cost(layer, graph.n_atoms, graph.n_edges, 4).flops == pytest.approx(counted, rel=1 / 7)


def test_universal_potentials_are_compared_with_labels_and_relaxed(tmp_path: Path) -> None:
    """Two processes answer; EMT has no error against its own labels, and a perfect crystal of a model is there too."""
    from ase.build import bulk
    from ase.calculators.emt import EMT
    from ase.io import write

    from mlanet.checkpoint import save_model
    from mlanet.config import parse
    from mlanet.models import ModelConfig

    frames = []
    for seed in range(3):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.1, seed=seed)
        atoms.calc = EMT()
        atoms.get_potential_energy()
        frames.append(atoms)
    write(tmp_path / "cu.extxyz", frames)
    config = parse({"model": "leignn", "channels": 8, "layers": 1}, ModelConfig, "test")
    save_model(Potential.build(config, Statistics((29,), (-3.0,), (1.0,), 40.0)), tmp_path / "m.safetensors")
    models = ["--model", "emt=emt", "--model", f"ours=mlanet:{tmp_path / 'm.safetensors'}"]
    run("universal.py", str(tmp_path / "cu.extxyz"), *models, "--relax", "1", "--output", str(tmp_path / "out"))
    with (tmp_path / "out" / "universal.csv").open() as file:
        emt, ours = csv.DictReader(file)
    assert float(emt["forces_mae"]) < 1e-3 < float(ours["forces_mae"])
    assert all(float(row["ms_per_atom"]) > 0 and float(row["memory_MiB"]) > 10 for row in (emt, ours))
    with (tmp_path / "out" / "relaxed.csv").open() as file:
        assert [row["model"] for row in csv.DictReader(file)] == ["ours"]


def test_properties_of_crystals_are_compared(tmp_path: Path) -> None:
    """Two models on the same crystals, one of them on fewer: rows of both on what both have, and nothing twice."""
    import gzip

    from pymatgen.core import Lattice, Structure

    entries = []
    for k, a in enumerate((3.9, 3.95)):
        structure = Structure.from_spacegroup("Pm-3m", Lattice.cubic(a), ["Cu", "Au"], [[0, 0, 0], [0, 0.5, 0.5]])
        numbers = {"bulk_modulus_vrh": 170.0, "shear_modulus_vrh": 40.0, "heat_capacity": 99.0}
        entries.append({"mp_id": f"mp-{k}", "formula": "CuAu3", "structure": structure.as_dict(), **numbers})
    data = tmp_path / "alloys.json.gz"
    data.write_bytes(gzip.compress(json.dumps(entries).encode()))
    elements = {"Ag": {"FCC": {"V0_A3_per_atom": 17.0, "B0_GPa": 100.0}}}
    (tmp_path / "elements.json").write_text(json.dumps({"elements": elements}))
    words = ["--moduli", f"{data}=2", "--heat", f"{data}=1", "--elements", str(tmp_path / "elements.json")]
    words += ["--model", "one=emt", "--model", "two=emt", "--most", "two=1", "--output", str(tmp_path / "out")]
    run("properties.py", *words)
    with (tmp_path / "out" / "properties.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = [(row["property"], row["model"], row["compared"], row["failed"]) for row in rows]
    assert found[:3] == [("moduli", "one", "2", "0"), ("moduli", "one", "1", "0"), ("moduli", "two", "1", "0")]
    assert {row["property"] for row in rows} == {"moduli", "heat", "elements", "elements that exist"}
    assert rows[1]["bulk_MAE_GPa"] == rows[2]["bulk_MAE_GPa"] and 0 < float(rows[1]["bulk_MAE_GPa"]) < 40
    heat = next(row for row in rows if row["property"] == "heat")
    assert abs(float(heat["heat_bias_J/(mol K)"])) < 1  # 3R of each of the four atoms is 99.8
    before = (tmp_path / "out" / "moduli" / "one.jsonl").read_text()
    run("properties.py", *words, "--table")
    assert (tmp_path / "out" / "moduli" / "one.jsonl").read_text() == before


@pytest.mark.slow
def test_relaxations_in_bulk_are_compared_with_the_usual_script(tmp_path: Path) -> None:
    """Every way relaxes the same start; energies are counted against ASE's, and what has been run is not run again."""
    ase.io.write(tmp_path / "si.extxyz", [bulk("Si", a=a) for a in (5.4, 5.5)])
    words = [str(tmp_path / "si.extxyz"), "--work", str(tmp_path / "out"), "--model", "elemental", "--count", "2"]
    words += ["--way", "ase", "--way", "batched"]
    run("relaxations.py", *words)
    answers = [(tmp_path / "out" / f"{name}.json").read_text() for name in ("ase", "batched")]
    run("relaxations.py", *words)
    assert [(tmp_path / "out" / f"{name}.json").read_text() for name in ("ase", "batched")] == answers
    with (tmp_path / "out" / "table.csv").open() as file:
        usual, batched = csv.DictReader(file)
    assert (usual["way"], batched["way"]) == ("ase", "batched")
    assert usual["converged"] == batched["converged"] == usual["same"] == batched["same"] == "2"
    assert 0 < int(batched["steps"]) < int(usual["steps"])


def test_sizes_of_calculators(tmp_path: Path) -> None:
    """Models in their own processes take turns; one that knows no silicon is not tried on more of it."""
    words = ["--model", "a=emt", "--model", "b=emt", "--systems", "Cu:4", "Si:8", "Si:64", "--rounds", "1"]
    place = ROOT / "benchmarks" / "sizes.py"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(place), *words, "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "sizes.json").read_text())["rows"]
    assert [(row["model"], row["system"]) for row in rows] == [(m, s) for s in ("Cu:4", "Si:8", "Si:64") for m in "ab"]
    for row in rows[:2]:
        assert 0 < row["least_ms"] <= row["median_ms"] and row["memory_MiB"] > 10 and not row["failure"]
    assert all("least_ms" not in row for row in rows[2:])
    assert "Si" in rows[2]["failure"] and rows[4]["failure"] == "not tried"
