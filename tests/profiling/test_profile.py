"""Workers, comparisons and growth: failures are rows, limits hold, and other packages come in by an adapter file."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest
import torch

from mlanet.errors import ConfigError
from mlanet.execution import Execution
from mlanet.native.engine import Engine
from mlanet.plots import pareto_front
from mlanet.profiling.clock import Clocks
from mlanet.profiling.compare import Plan, compare, memory, phases, started
from mlanet.profiling.fleet import Remote, Settings, WorkerError, as_data, require_known
from mlanet.profiling.measurement import Measurement, busy
from mlanet.profiling.ours import configuration, own
from mlanet.profiling.plots import bars, family
from mlanet.profiling.report import ratios
from mlanet.profiling.scale import growth, scale
from mlanet.profiling.steps import Steps
from mlanet.profiling.subject import Answering, Request
from mlanet.profiling.systems import CRYSTALS, system

SMALL = "leignn:channels=8,layers=1"
FUSED = f"{SMALL}@fused"
NATIVE = "mlanet_l1:irreps=8x0e+8x1o,layers=1"
TINY = {"Si:8": system("Si:8")}

ADAPTERS = '''
"""A spring between neighbours, as another package would have it."""
from dataclasses import dataclass
import time
import torch

class Springs(torch.nn.Module):
    cutoff = 3.0
    def __init__(self, delays):
        super().__init__()
        self.delays = delays
        self.strength = torch.nn.Parameter(torch.ones(1))
    @property
    def module(self):
        return self
    def prepare(self, structures):
        return torch.as_tensor(structures[0].positions, dtype=torch.float32)
    def edges(self, inputs):
        return len(inputs) ** 2
    def evaluate(self, inputs, training):
        time.sleep(self.delays.pop(0) if self.delays else 0.0)
        x = inputs.clone().requires_grad_()
        energy = self.strength * (x[:, None] - x).square().sum()[None]
        (slope,) = torch.autograd.grad(energy.sum(), x, create_graph=training)
        return energy, -slope, torch.zeros(1, 3, 3) * energy

@dataclass
class Entry:
    environment: str
    requires: tuple
    build: object

def springs(options, request):
    if set(options) - {"wrong", "sleeps_in_call"}:
        raise ValueError(f"no option {sorted(options)[0]}")
    if options.get("wrong"):
        raise MemoryError("too large")
    call = options.get("sleeps_in_call", 0)
    return Springs([0.0] * (call - 1) + [1000.0] if call else [])

PEERS = {"springs": Entry("none", ("torch",), springs), "absent": Entry("none", ("no_such_package",), springs)}
'''


@pytest.fixture
def adapters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "adapters_of_a_test.py").write_text(ADAPTERS)
    monkeypatch.syspath_prepend(str(folder))
    return folder / "adapters_of_a_test.py"


@pytest.mark.usefixtures("forks")
def test_a_comparison_measures_every_model_and_reports_every_failure(adapters: Path) -> None:
    """Our own model and another package's side by side; one that cannot be built is a row with the reason."""
    settings = Settings(peers=adapters)
    rows = compare(Plan([FUSED, "springs", "springs:wrong=true"], TINY, ["infer", "train"], 2, settings))
    assert [(row.model, row.mode) for row in rows] == [
        (name, mode) for name in (FUSED, "springs", "springs:wrong=true") for mode in ("infer", "train")
    ]
    for row in rows[:4]:
        assert not row.failure and row.rounds == 2 and row.edges and row.parameters
        assert 0 < row.ms_p20 <= row.ms <= row.ms_p80 and row.processor_ms > 0
        assert row.us_per_atom == pytest.approx(1e3 * row.ms / row.atoms, rel=1e-3)
        assert row.tensor_MiB > 0 and row.resident_MiB >= 0
        assert row.slope_error < 0.02
        assert {"device", "torch", "commit", "dtype", "threads", "tf32", "date"} <= set(row.machine)
    assert rows[1].tensor_MiB > rows[0].tensor_MiB, "a training step keeps more"
    assert all(row.failure == "out of memory: MemoryError: too large" and row.ms is None for row in rows[4:])
    times = {(row[1], row[2]): row[3] for row in ratios(rows)}
    assert times["infer", FUSED] == 1.0


@pytest.mark.usefixtures("forks")
def test_an_interrupted_comparison_keeps_what_it_has() -> None:
    """Stopped in the second round: the times of the first are saved."""
    kept: list[list[Measurement]] = []

    def stopped(things, label="", total=None):  # type: ignore[no-untyped-def]
        for index, thing in enumerate(things):
            if label == "timing" and index == 5:
                raise KeyboardInterrupt
            yield thing

    with pytest.raises(KeyboardInterrupt):
        compare(Plan([FUSED], TINY, ["infer"], 9, Settings()), stopped, kept.append)
    assert kept[-1][0].rounds == 2 and kept[-1][0].ms > 0


@pytest.mark.slow
@pytest.mark.usefixtures("forks")
def test_a_model_that_is_too_slow_is_ended_and_keeps_what_it_has(adapters: Path) -> None:
    """One sleeps while it is checked, one in the fourth of its rounds; neither harms the model beside them."""
    at_once, later = "springs:sleeps_in_call=2", "springs:sleeps_in_call=10"  # three check the slope, two a round
    settings = Settings(peers=adapters, limit_s=10.0)
    rows = compare(Plan([at_once, later, "springs"], TINY, ["infer"], 4, settings, warm_up=1))
    assert rows[0].failure == "too slow: > 10 s" and rows[0].ms is None
    assert rows[1].rounds == 2 and rows[1].ms is not None and rows[1].failure == "memory: too slow: > 10 s"
    assert rows[2].rounds == 4 and rows[2].tensor_MiB and not rows[2].failure


def test_rows_are_read_as_they_were_written() -> None:
    """Through their flat form, machine included."""
    row = Measurement("m", "s", "infer", 8, ms=1.5, machine={"device": "x", "threads": 2})
    assert Measurement.of(row.flat()) == row


@pytest.mark.usefixtures("forks")
def test_a_worker_that_is_killed_is_a_row() -> None:
    """The comparison goes on without it, and says that it was killed."""
    remote = started(SMALL, list(TINY.values()), Settings())
    remote.process.kill()
    with pytest.raises(WorkerError, match="killed, most likely for its memory") as caught:
        remote.ask("time", key="x", mode="infer")
    assert caught.value.kind == "out of memory"
    remote.close()


@pytest.mark.slow
def test_a_memory_limit_ends_growth_and_nothing_else() -> None:
    """Sizes grow until the limit; the size that did not fit is a row, and the growth is fitted to those that did."""
    rows, growths = scale([SMALL], "Si", ["train"], Settings(limit_gib=0.06), [8, 64, 216, 1000, 4096], 60.0)
    assert rows[-1].failure.startswith("out of memory")
    assert not any(row.failure for row in rows[:-1]) and len(rows) >= 3
    assert growths[0].ended == "out of memory" and growths[0].largest == rows[-2].atoms


def rows_of(walls: dict[str, tuple[float, float | None]]) -> list[Measurement]:
    """A row for each model with its wall and processor time."""
    rows = []
    for name, clocks in walls.items():
        rows.append(Measurement(name, "Si:8", "infer", atoms=8, machine={"device": "x"}))
        rows[-1].add_times([Clocks(*clocks)] * 3)
    return rows


def test_a_busy_machine_is_told() -> None:
    """Wall and processor time stand side by side; where they part, the worst row is named, in words and on the page."""
    quiet = rows_of({"leignn": (10.0, 9.9), "mlanet_l2": (20.0, 35.0), "on a GPU": (3.0, None)})
    assert busy(quiet) == "" and [row.processor_ms for row in quiet] == [9.9, 35.0, None]
    words = busy([*quiet, *rows_of({"mlanet_l1": (500.0, 10.0), "mlanet_l3": (30.0, 15.0)})])
    assert "in 2 of 5 rows" in words and "up to 50 times (mlanet_l1, infer on Si:8)" in words


def test_bars_begin_at_zero() -> None:
    """The length of a bar is the time: twice as long is twice as slow."""
    figure = bars(rows_of({"leignn": (10.0, 9.9), "mlanet_l2": (4000.0, 3500.0)}), "Si:8")
    axes = figure.axes[0]
    assert axes.get_xscale() == "linear" and axes.get_xlim()[0] == 0 and axes.get_xlim()[1] > 4000
    assert [(bar.get_x(), bar.get_width()) for bar in axes.patches] == [(0, 4000.0), (0, 10.0)]


def test_exponents_are_those_of_the_data() -> None:
    """t = 3 N^1.5 and memory linear."""
    rows = [
        Measurement("m", "s", "infer", atoms=n, ms=3 * n**1.5, tensor_MiB=2.0 * n) for n in (10, 20, 40, 80, 160, 320)
    ]
    found = growth(rows)
    assert found.exponent == pytest.approx(1.5, abs=1e-3)
    assert found.memory_exponent == pytest.approx(1.0, abs=1e-3)


@pytest.mark.usefixtures("forks")
def test_phases_and_kept_memory_of_a_model() -> None:
    """Every part of a step has a time, and the modules of the model keep what autograd needs."""
    plan = Plan([FUSED], TINY, ["train"], 1, Settings())
    (row,) = phases(plan)
    parts = ["neighbour list", "infer: forward", "infer: backward", "train: double backward", "train: optimiser"]
    assert all(row[name] > 0 for name in parts)
    rows, saved = memory(plan)
    assert rows[0].tensor_MiB > 0
    kept = saved[f"{FUSED} on Si:8"]
    assert any(name.startswith("model.layers.0") for name in kept) and sum(kept.values()) > 1000


@pytest.mark.slow
@pytest.mark.usefixtures("forks")
def test_a_trace_says_where_the_time_goes() -> None:
    """Layers and operations add up to what was booked, none is faster than the machine by far."""
    remote = started(SMALL, list(TINY.values()), Settings())
    remote.ask("load", key="x", structures=[as_data(TINY["Si:8"])])
    found = remote.ask("trace", key="x", mode="train", path="")
    remote.close()
    assert sum(row["ms"] for row in found["layers"]) == pytest.approx(found["booked_ms"], rel=0.2)
    assert found["ceilings"]["gb_per_s"] > 0.5 and found["ceilings"]["gflop_per_s"] > 0.5
    assert {"mm", "mul"} <= {row["operation"] for row in found["operations"]}
    assert found["kernels"]


def test_names_that_do_not_exist_are_refused_before_anything_starts(adapters: Path) -> None:
    """Each with what would be right."""
    with pytest.raises(ConfigError, match="did you mean 'leignn'"):
        require_known(["leign"], Settings())
    with pytest.raises(ConfigError, match="unknown key 'chanels'; did you mean 'channels'"):
        require_known(["leignn:chanels=3"], Settings())
    with pytest.raises(ConfigError, match="no_such_package is not installed"):
        require_known(["absent"], Settings(peers=adapters))
    with pytest.raises(ConfigError, match="no such file"):
        require_known(["leignn"], Settings(peers=adapters.with_name("no.py")))
    with pytest.raises(ConfigError, match="cuda"):
        require_known(["leignn"], Settings(Execution(device="cuda:99")))


@pytest.mark.usefixtures("forks")
def test_a_model_that_fails_to_build_leaves_no_process(adapters: Path) -> None:
    """The worker of a failed start has ended."""
    remote = Remote("springs:strange=1", Settings(peers=adapters))
    with pytest.raises(WorkerError, match="no option strange"):
        remote.build((14,), 10.0)
    remote.close()
    assert remote.process.poll() is not None


def test_settings_in_a_name() -> None:
    """Commas inside brackets separate nothing."""
    found = configuration("mlanet_l2:radial_hidden=[8,16],layers=1")
    assert (found.radial_hidden, found.layers) == ((8, 16), 1)
    assert own("leignn", Request((1, 8), 20.0)).module.species == (1, 8)


@pytest.mark.parametrize("kind", CRYSTALS)
@pytest.mark.parametrize("atoms", [24, 96, 500])
def test_systems_have_about_the_atoms_asked_for_and_no_needle_shape(kind: str, atoms: int) -> None:
    """Within a third, or one cell; never two atoms in one place."""
    found = system(f"{kind}:{atoms}")
    assert abs(len(found) - atoms) <= max(atoms / 3, 12)
    lengths = found.cell.lengths()[found.pbc]
    assert lengths.max() / lengths.min() < 6.1
    distances = found.get_all_distances(mic=True)
    assert distances[distances > 0].min() > 0.8


@pytest.mark.parametrize("name", ["Si", "Si:0", "Xx:5", "Si:many", "no/such.cif"])
def test_systems_that_do_not_exist(name: str) -> None:
    """Are refused."""
    with pytest.raises((ValueError, OSError)):
        system(name)


def test_lines_and_fronts_of_pictures() -> None:
    """Models that differ in l_max only share a line; the front holds what nothing beats."""
    assert family("mlanet_l1") == family("mlanet_l3") == "mlanet"
    assert family("mace:l_max=1,channels=8") == family("mace:l_max=3,channels=8") != family("mace:l_max=1")
    assert pareto_front([(2.0, 1.0, "b"), (1.0, 2.0, "a"), (3.0, 1.5, "c")]) == [(1.0, 2.0, "a"), (2.0, 1.0, "b")]


@pytest.mark.parametrize("way", ["", "@native"])
def test_the_engine_without_torch_answers_and_torch_trains(way: str) -> None:
    """What `auto` computes with in inference is what is timed, before a training step and after it."""
    request = Request((14,), 20.0, Execution("float64"))
    fused, subject = own(f"{NATIVE}@fused", request), own(NATIVE + way, request)
    assert isinstance(subject, Answering) and not isinstance(fused, Answering)
    steps = Steps(subject, subject.prepare([system("Si:8")]))
    for _ in range(2):
        with mock.patch.object(Engine, "compute", autospec=True, side_effect=Engine.compute) as engine:
            answers = subject.evaluate(steps.inputs, False)
        assert engine.call_count == 1
        for one, other in zip(answers, fused.evaluate(steps.inputs, False), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)
        steps.train()
        subject.forget()
    assert not isinstance(subject.in_torch, Answering)


@pytest.mark.slow
def test_compiled_steps_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """`+compile`: the same answer and the same gradient by traced programs, and these are what a step calls."""
    monkeypatch.setattr("mlanet.compiled._machine_code", lambda traced: traced)
    request = Request((14,), 20.0, Execution("float64"))
    plain, compiled = own(FUSED, request), own(f"{SMALL}@fused+compile", request)
    slopes = []
    for subject in (plain, compiled):
        steps = Steps(subject, subject.prepare([system("Si:8")]))
        steps.gradient()
        slopes.append([one.grad for one in subject.module.parameters() if one.grad is not None])
        slopes[-1] += list(subject.evaluate(steps.inputs, False))
    assert len(slopes[0]) > 10
    for one, other in zip(*slopes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    assert {name: program.programs for name, program in compiled._programs.items()} == {"train": 1, "infer": 1}
    with pytest.raises(ConfigError, match="there is \\+compile"):
        own(f"{SMALL}@fused+captured", request)
