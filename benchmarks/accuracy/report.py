"""Means, standard errors and paired differences of the rows so far: into a table, a picture and docs/accuracy.md."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from accuracy.groups import Group, groups_of, mean_error
from accuracy.picture import draw
from accuracy.plan import Benchmark, Published
from accuracy.work import TABLE, read_rows
from mlanet.errors import ConfigError
from mlanet.files import write_whole

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "accuracy.md"
PICTURE = ROOT / "docs" / "figures" / "accuracy.png"
BEGIN, END = "<!-- begin: {} -->\n", "<!-- end: {} -->\n"
COLUMNS = {"energy": "meV_per_atom", "forces": "meV_per_A", "stress": "GPa"}
UNITS = {"energy": "meV/atom", "forces": "meV/Å", "stress": "GPa"}
SHOWN = ("forces", "energy")
"""What the page shows of each training; `summary.csv` has all."""


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
    """Errors of all variants: a table for each quantity where sets have variants in common, else one for the set."""
    tables = []
    for several in _alike(groups):
        sets = list(dict.fromkeys(group.benchmark.title for group in several))
        known = {q: [one for one in sets if _has(several, one, q)] for q in SHOWN}
        known = {q: titles for q, titles in known.items() if titles}
        if len(sets) == 1:
            heads = [(sets[0], [f"{q}, {UNITS[q]}" for q in known], [(q, sets[0]) for q in known])]
        else:
            heads = [(f"{q}, {UNITS[q]}", titles, [(q, one) for one in titles]) for q, titles in known.items()]
        for first, names, columns in heads:
            rows = []
            for title in dict.fromkeys(group.title for group in several):
                by_set = {group.benchmark.title: group for group in several if group.title == title}
                seeds = sorted({len(group.rows) for group in by_set.values()})
                words = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]}–{seeds[-1]}"
                rows.append([title, words, *(_error(by_set.get(one), groups, q) for q, one in columns)])
            tables.append(_table([first, "seeds", *names], rows))
    return "\n".join(tables)


def _alike(groups: Sequence[Group]) -> list[list[Group]]:
    """Groups of one preset whose sets have a changed variant in common, at most five sets: seven columns at most."""
    found: list[list[Group]] = []
    for name in dict.fromkeys(group.benchmark.name for group in groups):
        mine = [group for group in groups if group.benchmark.name == name]
        titles = {group.title for group in mine} - {"reference"}
        for several in found:
            same = several[0].benchmark.preset == mine[0].benchmark.preset
            if same and titles & {one.title for one in several} and len({one.benchmark.name for one in several}) < 5:
                several += mine
                break
        else:
            found.append(mine)
    return found


def _has(groups: Sequence[Group], title: str, quantity: str) -> bool:
    """Whether a set has labels of a quantity."""
    key = f"{quantity}_mae_{COLUMNS[quantity]}"
    return any(key in row for group in groups if group.benchmark.title == title for row in group.rows.values())


def _error(group: Group | None, groups: Sequence[Group], quantity: str) -> str:
    """An error with its standard error; of what variants are compared by, with the change from the first of them."""
    if group is None:
        return ""
    key = f"{quantity}_mae_{COLUMNS[quantity]}"
    reference = reference_of(groups, group)
    shown = _number(group.mean(key))
    if not shown or group is reference or key != group.benchmark.metric:
        return shown
    return f"{shown} ({percent(group.against(reference, key))})"


def _costs(groups: Sequence[Group]) -> str:
    """Steps, time, weights and memory of the first variant of each set."""
    rows = []
    for group in groups:
        if group is not reference_of(groups, group):
            continue
        first, seconds = next(iter(group.rows.values())), group.mean("processor_s")[0]
        weights, memory = f"{first['parameters']:,}", f"{group.mean('peak_memory_MiB')[0]:.0f}"
        step = f"{1e3 * seconds / first['steps']:.0f}"
        rows.append([group.benchmark.title, f"{first['steps']:,}", f"{seconds:,.0f}", step, weights, memory])
    return _table(["set", "steps", "processor s", "ms a step", "weights", "MiB"], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [head, ["--"] * len(head), *rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines).replace("| -- ", "|--").replace("-- |", "--|")


def _over_sets(groups: Sequence[Group]) -> str:
    """Each variant against the first, mean over the sets of one preset with the standard error between them."""
    groups = [group for group in groups if group.benchmark.preset == groups[0].benchmark.preset]
    rows = []
    for title in dict.fromkeys(group.title for group in groups):
        mine = [(one, reference_of(groups, one)) for one in groups if one.title == title]
        mine = [(one, other) for one, other in mine if one is not other]
        if not mine:
            continue
        cells = [title, str(len(mine)), str(sum(len(one.rows) for one, _ in mine))]
        for key in ("energy_mae_meV_per_atom", "forces_mae_meV_per_A", "processor_s"):
            cells.append(percent(mean_error([one.against(other, key)[0] for one, other in mine])))
        rows.append(cells)
    return _table(["variant", "sets", "trainings", "energy", "forces", "time"], rows)


def _published(groups: Sequence[Group]) -> str:
    """Figures of others, once where several benchmarks have them."""
    found: dict[Published, str] = {}
    for group in groups:
        for other in group.benchmark.published:
            found.setdefault(other, group.benchmark.title)
    rows = []
    for other, title in found.items():
        figures = [("" if value is None else f"{value:g}") for value in (other.energy, other.forces, other.stress)]
        rows.append([title, other.model, str(other.train), *figures, f"{other.kind.upper()}; {other.source}"])
    names = [f"{quantity}, {UNITS[quantity]}" for quantity in COLUMNS]
    return _table(["set", "model", "structures", *names, "source"], rows)


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
