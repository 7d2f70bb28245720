"""One row of a profile, and how rows are written."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlanet.files import table_text, write_whole
from mlanet.version import __version__

if TYPE_CHECKING:
    from mlanet.profiling.clock import Clocks

MIB = 2**20


@dataclass
class Measurement:
    """Time and memory of one model on one system in one mode; a failure is a row like any other.

    - ms: median over the rounds, ms_p20 and ms_p80 around it · us_per_atom: the median over the atoms
    - processor_ms: median of the processor time of all threads; below ms where the machine served others (CPU)
    - tensor_MiB: tensors alive at once, above the model and its inputs; the same on every device; None of an engine
      that has none
    - resident_MiB: rise of the process (CPU) · allocated_MiB, reserved_MiB: of CUDA's allocator
    """

    model: str
    system: str
    mode: str
    atoms: int = 0
    edges: int | None = None
    cutoff_A: float | None = None
    parameters: int | None = None
    l_max: int | None = None
    ms: float | None = None
    ms_p20: float | None = None
    ms_p80: float | None = None
    processor_ms: float | None = None
    rounds: int = 0
    us_per_atom: float | None = None
    tensor_MiB: float | None = None
    resident_MiB: float | None = None
    allocated_MiB: float | None = None
    reserved_MiB: float | None = None
    bytes_per_edge: float | None = None
    slope_error: float | None = None
    failure: str = ""
    machine: dict[str, Any] = field(default_factory=dict)

    @property
    def working_MiB(self) -> float | None:
        """What models are compared by: tensors, or the rise of the process where there are none."""
        return self.resident_MiB if self.tensor_MiB is None else self.tensor_MiB

    def add_times(self, clocks: Sequence[Clocks]) -> None:
        """Fill in the quantiles."""
        from mlanet.profiling.clock import Sample

        values = [clock.ms for clock in clocks]
        sample = Sample(values)
        processor = [clock.processor_ms for clock in clocks if clock.processor_ms is not None]
        self.processor_ms = round(Sample(processor).quantile(0.5), 4) if processor else None
        self.ms_p20, self.ms, self.ms_p80 = (round(sample.quantile(q), 4) for q in (0.2, 0.5, 0.8))
        self.rounds = len(values)
        self.us_per_atom = round(1e3 * self.ms / self.atoms, 3)

    def add_memory(self, answer: dict[str, Any]) -> None:
        """Fill in the bytes that a worker reports."""
        for name in ("tensor", "resident", "allocated", "reserved"):
            if f"{name}_bytes" in answer:
                setattr(self, f"{name}_MiB", round(answer[f"{name}_bytes"] / MIB, 3))
        if self.edges and "tensor_bytes" in answer:
            self.bytes_per_edge = round(answer["tensor_bytes"] / self.edges, 1)

    def flat(self) -> dict[str, Any]:
        """One mapping of plain values, for a table."""
        row = asdict(self)
        return {**{key: row[key] for key in row if key != "machine"}, **self.machine}

    @classmethod
    def of(cls, row: dict[str, Any]) -> Measurement:
        """The row that `flat` made this of."""
        own = {name: row[name] for name in COLUMNS}
        return cls(**own, machine={name: value for name, value in row.items() if name not in own})


PARTED = 1.25
"""Wall over processor time from which on a machine counts as busy."""


def busy(rows: Sequence[Measurement]) -> str:
    """A warning where wall and processor time part, or nothing."""
    parted = [(row.ms / row.processor_ms, row) for row in rows if row.ms and row.processor_ms]
    parted = [(ratio, row) for ratio, row in parted if ratio > PARTED]
    if not parted:
        return ""
    ratio, row = max(parted, key=lambda one: one[0])
    return (
        f"in {len(parted)} of {len(rows)} rows the wall time is more than the processor time, up to {ratio:.3g} times "
        f"({row.model}, {row.mode} on {row.system}): this machine was busy with other work, and ms is not what the "
        "models need. Compare processor_ms, or measure again when the machine is quiet"
    )


COLUMNS = tuple(column.name for column in fields(Measurement) if column.name != "machine")


def write_rows(rows: Sequence[dict[str, Any]], folder: Path, name: str, facts: dict[str, Any]) -> list[Path]:
    """`name`.csv (every row with its machine) and `name`.json (rows and facts), each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    table, document = folder / f"{name}.csv", folder / f"{name}.json"
    write_whole(table, table_text(rows).encode())
    write_whole(document, (json.dumps({"facts": facts, "rows": list(rows)}, indent=1) + "\n").encode())
    return [table, document]


def provenance() -> dict[str, str]:
    """This package's version and commit, and the day."""
    return {"mlanet": __version__, "commit": commit(), "date": date.today().isoformat()}


def commit() -> str:
    """The short hash of a clone, marked where files were changed; "installed" outside of one."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return "installed"
    try:
        git = ["git", "-C", str(folder)]
        done = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip() + ("+changes" if changed.stdout.strip() else "")
