"""Means, standard errors and paired differences of the rows so far: into a table, a picture and docs/accuracy.md."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from accuracy.groups import Group, groups_of, mean_error
from accuracy.picture import draw
from accuracy.plan import Benchmark
from accuracy.work import TABLE, read_rows
from mlanet.errors import ConfigError
from mlanet.files import write_whole

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "accuracy.md"
PICTURE = ROOT / "docs" / "figures" / "accuracy.png"
BEGIN, END = "<!-- begin: {} -->\n", "<!-- end: {} -->\n"
COLUMNS = {"energy": "meV_per_atom", "forces": "meV_per_A", "stress": "GPa"}


def report(benchmarks: Sequence[Benchmark], results: Path) -> list[Path]:
    """Write `summary.csv` beside the rows, the picture, and the tables inside of docs/accuracy.md; returns the paths.

    With rows of another folder than the one that is kept, table and picture go there and the page stays.

    Raises:
        ConfigError: there are no rows yet.
    """
    rows = read_rows(results / TABLE)
    groups = [group for one in benchmarks for group in groups_of(one, rows)]
    if not groups:
        raise ConfigError(f"{results / TABLE}: no rows of {', '.join(one.name for one in benchmarks)} yet")
    kept = results.resolve() == (ROOT / "benchmarks" / "results" / "accuracy").resolve()
    picture = PICTURE if kept else results / "accuracy.png"
    summary = results / "summary.csv"
    write_whole(summary, _summary(groups).encode())
    draw(groups, picture)
    if not kept:
        return [summary, picture]
    text = PAGE.read_text(encoding="utf-8")
    for name, make in TABLES.items():
        text = filled(text, name, make(groups))
    write_whole(PAGE, text.encode())
    return [summary, picture, PAGE]


def reference_of(groups: Sequence[Group], group: Group) -> Group:
    """The variant that this one is compared with: the first of its benchmark."""
    return next(one for one in groups if one.benchmark is group.benchmark)


def filled(text: str, name: str, table: str) -> str:
    """The page with a table between its two marks.

    >>> filled("a\\n<!-- begin: x -->\\nold\\n<!-- end: x -->\\nb", "x", "new\\n")
    'a\\n<!-- begin: x -->\\nnew\\n<!-- end: x -->\\nb'
    """
    begin, end = BEGIN.format(name), END.format(name)
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return before + begin + table + end + after


def _errors(groups: Sequence[Group]) -> str:
    """All variants: errors, cost, and the difference of the forces' error from the first."""
    lines = ["| set | variant | seeds | energy, meV/atom | forces, meV/Å | stress, GPa | forces, change |"]
    lines.append("|--|--|--|--|--|--|--|")
    for group in groups:
        reference = reference_of(groups, group)
        cells = [_number(group.mean(f"{q}_mae_{column}")) for q, column in COLUMNS.items()]
        change = "" if group is reference else percent(group.against(reference, group.benchmark.metric))
        lines.append(
            "| " + " | ".join([group.benchmark.title, group.title, str(len(group.rows)), *cells, change]) + " |"
        )
    return "\n".join(lines) + "\n"


def _costs(groups: Sequence[Group]) -> str:
    """Steps, time, weights, memory."""
    lines = [
        "| set | variant | steps | processor s | ms a step | weights | MiB |",
        "|--|--|--|--|--|--|--|",
    ]
    for group in groups:
        rows = list(group.rows.values())
        seconds, steps = group.mean("processor_s")[0], rows[0]["steps"]
        cells = [group.benchmark.title, group.title, str(steps), f"{seconds:.0f}", f"{1e3 * seconds / steps:.0f}"]
        cells += [f"{rows[0]['parameters']:,}".replace(",", " "), f"{group.mean('peak_memory_MiB')[0]:.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _over_sets(groups: Sequence[Group]) -> str:
    """Each variant against the first, mean over the sets of one preset with the standard error between them."""
    groups = [group for group in groups if group.benchmark.preset == groups[0].benchmark.preset]
    lines = ["| variant | sets | trainings | energy | forces | time |", "|--|--|--|--|--|--|"]
    for title in dict.fromkeys(group.title for group in groups):
        mine = [(one, reference_of(groups, one)) for one in groups if one.title == title]
        mine = [(one, other) for one, other in mine if one is not other]
        if not mine:
            continue
        cells = [title, str(len(mine)), str(sum(len(one.rows) for one, _ in mine))]
        for key in ("energy_mae_meV_per_atom", "forces_mae_meV_per_A", "processor_s"):
            cells.append(percent(mean_error([one.against(other, key)[0] for one, other in mine])))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _published(groups: Sequence[Group]) -> str:
    """Figures of others beside the best of ours."""
    lines = ["| set | model | structures | energy, meV/atom | forces, meV/Å | stress, GPa | source |"]
    lines.append("|--|--|--|--|--|--|--|")
    for one in {group.benchmark.name: group.benchmark for group in groups}.values():
        for other in one.published:
            figures = [("" if value is None else f"{value:g}") for value in (other.energy, other.forces, other.stress)]
            cells = [one.title, other.model, str(other.train), *figures, f"{other.kind.upper()}; {other.source}"]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


TABLES: dict[str, Callable[[Sequence[Group]], str]] = {
    "errors": _errors,
    "over sets": _over_sets,
    "costs": _costs,
    "published": _published,
}
"""What stands between the marks of the page."""


def _number(value: tuple[float, float]) -> str:
    """Mean and standard error, with the digits that the error allows.

    >>> _number((12.345, 0.21)), _number((1.23456, 0.012))
    ('12.3 ± 0.2', '1.23 ± 0.01')
    """
    mean, error = value
    if math.isnan(mean):
        return ""
    if math.isnan(error) or error == 0:
        return f"{mean:.3g}"
    digits = max(0, -math.floor(math.log10(error)))
    return f"{mean:.{digits}f} ± {error:.{digits}f}"


def percent(change: tuple[float, float]) -> str:
    """A mean difference of logarithms with its standard error.

    >>> percent((math.log(1.1), 0.02))
    '+10.0 ± 2.2 %'
    """
    mean, error = change
    if math.isnan(mean):
        return ""
    shown = f"{100 * math.expm1(mean):+.1f}"
    return f"{shown} %" if math.isnan(error) else f"{shown} ± {100 * math.exp(mean) * error:.1f} %"


def _summary(groups: Sequence[Group]) -> str:
    """All means as CSV."""
    file = io.StringIO()
    keys = [f"{q}_{kind}_{column}" for q, column in COLUMNS.items() for kind in ("mae", "rmse")]
    writer = csv.writer(file)
    names = [f"{key}{end}" for key in [*keys, "processor_s"] for end in ("", "_se")]
    writer.writerow(["set", "variant", "budget", "seeds", "steps", *names, "change", "change_se"])
    for group in groups:
        variant = ",".join(f"{key}={value}" for key, value in group.variant)
        steps = next(iter(group.rows.values()))["steps"]
        means = [value for key in [*keys, "processor_s"] for value in group.mean(key)]
        change = group.against(reference_of(groups, group), group.benchmark.metric)
        head = [group.benchmark.name, variant, group.budget, len(group.rows), steps]
        writer.writerow([*head, *("" if math.isnan(value) else f"{value:.6g}" for value in (*means, *change))])
    return file.getvalue()
