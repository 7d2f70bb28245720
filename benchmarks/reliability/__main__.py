"""Sixty checks of reliability: each promise, the figure that is reached, and a page that says both.

    python benchmarks/reliability                     # the quick ones: some minutes of one core
    python benchmarks/reliability --only 5 20 30      # these, whatever they take
    python benchmarks/reliability --long              # all: hours
    python benchmarks/reliability --page              # write docs/reliability.md from what was measured last

Figures go to benchmarks/results/reliability.json, one entry a check, with commit, date and hardware.
Exit status 1 where a promise that was measured is not kept.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE.parent), str(ROOT / "tests")]
os.environ.setdefault("OMP_NUM_THREADS", "1")

from mlanet.files import write_whole  # noqa: E402
from mlanet.profiling.measurement import provenance  # noqa: E402
from reliability.check import Check  # noqa: E402
from reliability.checks import CHECKS  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "reliability.json"
PAGE = ROOT / "docs" / "reliability.md"
WORDS = {True: "kept", False: "MISSED", None: "open"}
INTRO = """# Reliability

What mlanet promises, and what is reached. Promises without a remark are kept; **open** ones are not measured yet.

Figures are in float64, then float32, in eV, Å, eV/Å and eV/Å³, relative where a value is above 1: the largest deviation
over all presets that promise it (few channels, random weights), a molecule, a crystal, a slab, a wire, a lone atom and
two atoms far apart. A number of tests means that all of them pass.

`python benchmarks/reliability --only N` measures promise N again (`make soak`: kills; `make fuzz`: wrong inputs),
`--page` writes this page.
"""
SECTIONS = {
    1: "Symmetry and additivity",
    15: "Derivatives",
    28: "Dynamics",
    33: "Precision and kernels",
    40: "Training",
    45: "Files",
    51: "Structures and data",
}
"""First check of each part of the page."""


def main() -> int:
    """Measure, print and keep; or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=int, nargs="+", metavar="N", help="numbers of checks")
    parser.add_argument("--long", action="store_true", help="also those that take minutes or hours")
    parser.add_argument("--page", action="store_true", help="write docs/reliability.md and measure nothing")
    options = parser.parse_args()
    kept = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    if options.page:
        write_whole(PAGE, page(kept).encode())
        return 0
    chosen = [one for one in CHECKS if (one.number in options.only if options.only else options.long or not one.long)]
    broken = 0
    for check in chosen:
        row = measured(check)
        kept[str(check.number)] = row
        broken += row["holds"] is False
        said = f"{check.promise}: {row['figure']} (promised {check.limit})"
        print(f"{check.number:2d}  {WORDS[row['holds']]:7s} {said}", flush=True)
        text = json.dumps(dict(sorted(kept.items(), key=lambda item: int(item[0]))), indent=1, ensure_ascii=False)
        write_whole(RESULTS, (text + "\n").encode())
    return 1 if broken else 0


def measured(check: Check) -> dict[str, Any]:
    """One check, with what it took and where."""
    start = time.process_time()
    outcome = check.measure()
    seconds = round(time.process_time() - start, 1)
    return {"figure": outcome.figure, "holds": outcome.holds, "processor_s": seconds, **provenance()}


def page(kept: dict[str, dict[str, Any]]) -> str:
    """The tables of all sixty."""
    lines = [INTRO]
    for check in CHECKS:
        if check.number in SECTIONS:
            lines += [f"\n## {SECTIONS[check.number]}", "| | promise | limit | reached |", "|--|--|--|--|"]
        row = kept.get(str(check.number), {"figure": "not measured yet", "holds": None})
        cells = (check.number, check.promise, check.limit, told(row))
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"


def told(row: dict[str, Any]) -> str:
    """What was reached, in a cell; in bold whatever is not kept."""
    if row["holds"] is None:
        return f"**{WORDS[None]}**"
    figure = re.sub(r"(\d+) of \1 tests pass", r"\1 tests", row["figure"])
    figure = re.sub(r"^1 tests", "1 test", figure)
    figure = figure.replace("need what is not here", "not run").replace("0.0e+00", "0")
    figure = re.sub(r" \((float64|float32)\)", "", figure)
    figure = re.sub(r"e-0(\d)", r"e-\1", figure)
    return figure if row["holds"] else f"**{WORDS[False]}**: {figure}"


if __name__ == "__main__":
    sys.exit(main())
