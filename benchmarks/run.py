"""Everything against everybody, and which goals are reached: one command.

    python benchmarks/run.py                              # this CPU; minutes to hours, see the first line it prints
    python benchmarks/run.py --device cuda                # a GPU: also growth to the last atom that fits
    python benchmarks/run.py --quick --peers              # a minute: tiny models, no other packages
    python benchmarks/run.py --peers mace nequip sevennet --systems LiCoO2:96 NaCl:216 --seconds 300
    python benchmarks/run.py --compiled-peers --seconds 1800      # them also compiled by torch, minutes for each

MLANet at l = 1, 2, 3 (light and full messages), LEIGNN, both with each of their kernels (`fused+compile`: whole steps
compiled too), and other packages' models (`peers.py`; `environments.py` makes their environments) at equal channels and
layers: energy, forces and stress, and a training step, in interleaved rounds on the same structures. All models of a
system are alive at once, some 0.5 GB each.

After each system all figures (`compare.csv|json|html`) and the table of goals (`goals.csv|json|html`) are written,
at the end the attention layers beside what the machine can do (`floors.csv|json`), on a GPU `growth.csv|json|html`.
A run that was interrupted goes on with the first system that is not complete. A model gets `--seconds` on each system
for being built, warmed up and timed, and again for memory; then its row says "too slow".
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from floors import floors
from goals import MILLION, Verdict, goals, judge, of_growth, of_kernels
from lineup import ADAPTERS, KERNELS, Sizes, lineup, require_present
from peers import PEERS

from mlanet.cli.output import note, print_table, progress
from mlanet.errors import ConfigError, MLANetError
from mlanet.execution import Execution
from mlanet.kernels import NATIVE
from mlanet.memory import free_bytes, is_out_of_memory
from mlanet.page import Page
from mlanet.profiling.ceilings import measure_ceilings
from mlanet.profiling.clock import WARM_UP
from mlanet.profiling.compare import Plan, compare
from mlanet.profiling.fleet import OUT_OF_MEMORY, TOO_SLOW, Settings, require_known
from mlanet.profiling.measurement import Measurement, commit, write_rows
from mlanet.profiling.report import compare_report, scale_report
from mlanet.profiling.scale import SHARE_OF_MACHINE, growth, growth_rows, scale, sizes_up_to
from mlanet.profiling.steps import MODES
from mlanet.profiling.systems import system

SYSTEMS = ("LiCoO2:96", "LiCoO2:384", "LiCoO2:1536", "Cu:108", "NaCl:216", "CO2:192", "bilayer:200")
"""An oxide in three sizes, a metal, a salt, molecules, layers."""
PEERS_OF_GOALS = ("mace", "nequip", "painn")
GROWING, LARGEST, LONGEST = "LiCoO2", 4_000_000, 20.0
"""On a GPU: the crystal that grows, to so many atoms, while a call takes no longer, s."""
ON_GPU = "LiCoO2:10000"
"""Where the attention layers are held against their floor."""
INTRO = (
    "Each goal is a ratio on every system; `typical` is the geometric mean, `worst` decides. A side is the fastest "
    "model of its family there (of MLANet's kernels whichever is quickest), its memory that of the same model."
)


class Run:
    """The options of a run and what it has measured so far."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.folder = options, Path(options.output)
        limit = options.memory or SHARE_OF_MACHINE * free_bytes(torch.device(options.device)) / 2**30
        execution = Execution("float32", options.device)
        self.settings = Settings(
            execution, threads=options.threads, limit_gib=limit, peers=ADAPTERS, limit_s=options.seconds
        )
        self.on_gpu = options.device.startswith("cuda")
        sizes = Sizes(options.channels, options.layers)
        kernels = options.kernels or [one for one in KERNELS if one != NATIVE or not self.on_gpu]
        everybody = lineup(options.degrees, kernels, options.peers, sizes, self.on_gpu, options.compiled_peers)
        self.contenders, self.absent = require_present(everybody, self.settings)
        try:
            self.systems = {where: system(where) for where in options.systems}
        except (ValueError, OSError) as error:
            raise ConfigError(str(error)) from None
        self.rows: list[Measurement] = []
        self.complete: list[str] = []
        self._go_on()

    @property
    def facts(self) -> dict[str, Any]:
        """What figures of one table have in common."""
        names = ("device", "threads", "channels", "layers", "rounds", "warm_up", "seconds")
        chosen = {name: getattr(self.options, name) for name in names}
        return {**chosen, "models": [one.name for one in self.contenders], "commit": commit()}

    def _go_on(self) -> None:
        """Take up the systems that an earlier run in the same folder completed.

        Raises:
            ConfigError: it was a run of something else.
        """
        path = self.folder / "compare.json"
        if not path.exists():
            return
        state = json.loads(path.read_text())
        before = state["facts"]["run"]
        if changed := [name for name, value in self.facts.items() if before.get(name) != value]:
            raise ConfigError(
                f"{self.folder} holds a run that differs in {', '.join(changed)}; choose another --output, or remove it"
            )
        self.complete = state["facts"]["complete"]
        self.rows = [Measurement.of(row) for row in state["rows"] if row["system"] in self.complete]

    def measure(self, where: str) -> None:
        """All models on one system, unless that is done."""
        if where in self.complete:
            return
        before, tried, hopeless = self.rows, [], []
        for one in self.contenders:
            failure = self._hopeless(one.name, where)
            hopeless += [Measurement(one.name, where, mode, failure=failure) for mode in MODES if failure]
            tried += [] if failure else [one.name]
        self.rows = [*before, *hopeless]

        def save(rows: list[Measurement]) -> None:
            self.rows = [*before, *rows, *hopeless]
            self.save()

        if tried:
            options = self.options
            structures = {where: self.systems[where]}
            plan = Plan(tried, structures, MODES, options.rounds, self.settings, warm_up=options.warm_up)
            compare(plan, progress, save)
        self.complete.append(where)
        self.save()
        compare_report(self.folder / "compare.html", self.rows, {}, "")

    def _hopeless(self, name: str, where: str) -> str:
        """Why a model need not be tried: all that it did on a smaller cell of the same crystal was to fail."""
        kind = where.partition(":")[0]
        for smaller in dict.fromkeys(row.system for row in self.rows if row.system.partition(":")[0] == kind):
            rows = [row for row in self.rows if (row.model, row.system) == (name, smaller)]
            failures = [row.failure.removeprefix("not tried: ") for row in rows if row.ms is None]
            if failures and len(failures) == len(rows) and failures[0].startswith((TOO_SLOW, OUT_OF_MEMORY)):
                return f"not tried: {failures[0].partition(' on ')[0]} on {smaller}"
        return ""

    def save(self) -> None:
        """The figures so far."""
        facts = {"run": self.facts, "complete": self.complete}
        write_rows([row.flat() for row in self.rows], self.folder, "compare", facts)

    def verdicts(self) -> list[Verdict]:
        """The goals between models."""
        wanted = goals(self.on_gpu, self.options.compiled_peers)
        return [judge(goal, self.rows, self.contenders, self.absent) for goal in wanted]

    def fastest(self, degree: int) -> str:
        """Our light model of a degree with the kernels that were quickest on the system with the most atoms."""
        names = [one.name for one in self.contenders if (one.family, one.degree) == ("mlanet", degree)]
        rows = [row for row in self.rows if row.model in names and row.mode == "infer" and row.ms is not None]
        return max(rows, key=lambda row: (row.atoms, -(row.ms or 0.0))).model if rows else names[-1]


def main() -> int:
    """Run what is missing; 2 where it cannot be run, 130 where it was interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what there is is saved on the way out
    options = _options()
    torch.set_num_threads(options.threads)
    try:
        require_known([], Settings(Execution("float32", options.device)))
        return _run(Run(options))
    except MLANetError as error:
        note(f"cannot run: {error}")
        return 2
    except KeyboardInterrupt:
        note(f"interrupted; the same command goes on from {options.output}")
        return 130


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny models and cells, one round: does it run at all?")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=PEERS_OF_GOALS, help="other packages")
    parser.add_argument("--compiled-peers", action="store_true", help="them also in their packages' compiled modes")
    parser.add_argument("--degrees", nargs="+", type=int, choices=(1, 2, 3), default=(1, 2, 3))
    parser.add_argument("--kernels", nargs="+", help="of our models; all that the device has")
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--systems", nargs="+", default=SYSTEMS, help="as LiCoO2:96, small before large, or files")
    parser.add_argument("--rounds", type=int, default=5, help="that count")
    parser.add_argument("--warm-up", type=int, default=WARM_UP, help="rounds before them")
    parser.add_argument("--seconds", type=float, default=120.0, help="for a model on a system")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory", type=float, help="GiB that a model may take; most of what is free if not given")
    parser.add_argument("--output", type=Path, default=Path("runs/everybody"))
    if parser.parse_args().quick:
        parser.set_defaults(channels=8, layers=1, systems=("Si:8", "CO2:12"), rounds=1, warm_up=1)
    return parser.parse_args()


def _run(run: Run) -> int:
    options = run.options
    for family, why in run.absent.items():
        note(f"without {family}: {why}")
    hours = 2 * len(run.contenders) * len(options.systems) * options.seconds / 3600
    note(f"{len(run.contenders)} models on {len(options.systems)} systems: at most {hours:.1f} h, mostly far less")
    for where in options.systems:
        note(where)
        run.measure(where)
        _write_goals(run, run.verdicts(), [])
    verdicts = run.verdicts()
    verdicts += _growth(run) if run.on_gpu else []
    near = _floors(run, ON_GPU if run.on_gpu else options.systems[0])
    verdicts += of_kernels(near) if run.on_gpu else []
    _write_goals(run, verdicts, near)
    _print(verdicts)
    return 0


def _floors(run: Run, where: str) -> list[dict[str, Any]]:
    """The attention layers of our fastest light model of each degree, beside what this machine can do."""
    device = torch.device(run.options.device)
    best = measure_ceilings(device, torch.float32)
    rows: list[dict[str, Any]] = []
    for degree in run.options.degrees:
        name = run.fastest(degree)
        try:
            rows += floors(name, where, system(where), run.settings, best)
        except Exception as error:
            if not (isinstance(error, MLANetError) or is_out_of_memory(error)):
                raise
            note(f"no floor for {name}: {error}")
    write_rows(rows, run.folder, "floors", {"ceilings": dataclasses.asdict(best), "run": run.facts})
    return rows


def _growth(run: Run) -> list[Verdict]:
    """Ever larger cells at l = 2 until memory ends: ours, and the others' with and without their kernels."""
    if 2 not in run.options.degrees:
        return []
    own = run.fastest(2)
    others = [one.name for one in run.contenders if one.degree == 2 and one.family.split()[0] in PEERS]
    free = free_bytes(torch.device(run.options.device)) / 2**30
    patient = dataclasses.replace(run.settings, limit_s=None, limit_gib=run.options.memory or free)
    rows: list[Measurement] = []
    for name in (own, *others):
        sizes = sorted(one for one in {*sizes_up_to(LARGEST), MILLION} if one <= LARGEST)
        rows += scale([name], GROWING, ["infer"], patient, sizes, LONGEST, note)[0]
        growths = [
            growth([row for row in rows if row.model == one]) for one in dict.fromkeys(row.model for row in rows)
        ]
        facts = {"run": run.facts, "growth": growth_rows(growths)}
        write_rows([row.flat() for row in rows], run.folder, "growth", facts)
        scale_report(run.folder / "growth.html", rows, growths)
    return of_growth(own, [row for row in rows if row.model == own])


def _write_goals(run: Run, verdicts: list[Verdict], near: list[dict[str, Any]]) -> None:
    """Table of goals, so far."""
    rows = [one.row() for one in verdicts]
    write_rows(rows, run.folder, "goals", {"run": run.facts, "complete": run.complete})
    page = Page("Goals", INTRO)
    page.facts([(name, value) for name, value in run.facts.items() if name != "models"])
    page.table(list(rows[0]), [list(row.values()) for row in rows])
    if near:
        page.heading("Attention layers beside their floors")
        page.table(list(near[0]), [list(row.values()) for row in near])
    page.write(run.folder / "goals.html")


def _print(verdicts: list[Verdict]) -> None:
    columns = ("goal", "needed>", "typical>", "worst>", "on", "reached", "not measured")
    cells = [["–" if value is None else str(value) for value in one.row().values()] for one in verdicts]
    print_table("", columns, cells)


if __name__ == "__main__":
    sys.exit(main())
