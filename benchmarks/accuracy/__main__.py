"""Which switches of a model pay, on several kinds of data: the same training for every variant, several seeds.

    export MLANET_BENCHMARK_DATA=folder              # with the files that benchmarks/accuracy/sets/*.yaml name
    python benchmarks/accuracy list                  # what would be trained, and what is done
    python benchmarks/accuracy run --work FOLDER     # do it; stop and start it as you like
    python benchmarks/accuracy report                # tables and picture from the rows so far

Trainings are those of the package, on one thread each. Time is the processor's, without looks at the test part. Rows go
to benchmarks/results/accuracy/rows.jsonl.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1])]
os.environ.setdefault("OMP_NUM_THREADS", "1")

from accuracy.plan import Training, read  # noqa: E402
from mlanet.errors import MLANetError  # noqa: E402

RESULTS = HERE.parent / "results" / "accuracy"


def main() -> int:
    """List, run, or report."""
    options = _options()
    try:
        if options.what == "one":
            from accuracy.one import run

            return run(_training(options), options.folder)
        benchmarks = read(options.names)
        if options.what == "run":
            from accuracy.work import work

            only = dict(word.split("=", 1) for word in options.only)
            return 0 if work(benchmarks, options.work, options.results, options.cores, only) else 143
        if options.what == "report":
            from accuracy.report import report

            for path in report(benchmarks, options.results):
                print(path)
            return 0
        from accuracy.work import TABLE, missing, read_rows

        rows = read_rows(options.results / TABLE)
        for one in missing(benchmarks, rows, {}):
            print(f"{one.name}: {one.steps} steps")
        print(f"{len(rows)} done")
    except MLANetError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    for name, text in (("list", "what is missing"), ("run", "train it"), ("report", "tables and picture")):
        one = commands.add_parser(name, help=text)
        one.add_argument("names", nargs="*", help="benchmarks, or YAML files; all if not given")
        one.add_argument("--results", type=Path, default=RESULTS)
        if name == "run":
            one.add_argument("--work", type=Path, required=True, help="folder for data, checkpoints, logs")
            one.add_argument("--cores", type=int, default=1, help="trainings at a time")
            one.add_argument("--only", nargs="+", default=[], metavar="KEY=VALUE", help="variants with these switches")
    one = commands.add_parser("one", help="one training (the queue starts these)")
    one.add_argument("folder", type=Path)
    one.add_argument("benchmark")
    one.add_argument("training")
    one.add_argument("steps", type=int)
    return parser.parse_args()


def _training(options: argparse.Namespace) -> Training:
    """The one of this name; with its steps, since those of an equal time come from the table."""
    from accuracy.plan import named

    (benchmark,) = read([options.benchmark])
    return named(benchmark, options.training, options.steps)


if __name__ == "__main__":
    sys.exit(main())
