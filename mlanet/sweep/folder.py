"""The folder of a sweep: the settings it was started with, one sweep at a time, and the result of each point."""

from __future__ import annotations

from pathlib import Path

import msgspec
import yaml

from mlanet.config import differences, parse, read_yaml
from mlanet.errors import CheckpointError, ConfigError
from mlanet.files import write_result
from mlanet.ownership import LOCK
from mlanet.sweep.config import SweepConfig
from mlanet.sweep.parts import digests, divide, write_parts
from mlanet.sweep.plan import PARTS, POINTS, Plan, Point, make_plan, plain, settled
from mlanet.sweep.table import Result

SETTINGS, RESULT, TABLE = "sweep.yaml", "result.json", "table.csv"
_BY_CONTENT = ("data.files", "data.test", "output")
"""Not compared as text: data are known by their content, and a folder may be moved."""


class Started(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What stands in `sweep.yaml`: the settings as they came, as they are used, and facts of the data."""

    given: SweepConfig
    used: SweepConfig
    available: int
    """Structures of the training part."""
    content: tuple[str, ...]
    """sha256 of the data files and of presets of one's own."""

    @property
    def plan(self) -> Plan:
        """The points."""
        return make_plan(self.used, self.available)


def open_folder(config: SweepConfig, threads: int) -> Started:
    """Start a sweep in its folder, or find the one that was started there with the same settings.

    Args:
        config: as given; `output` is the folder.
        threads: of a point, where nothing else says so.
    Raises:
        ConfigError: a folder with other settings (the message says which), or with something else in it.
        DataError: data that cannot be read or divided.
    """
    folder = Path(config.output)
    if (folder / SETTINGS).exists():
        started = read_folder(folder)
        _require_same(started, config)
    else:
        if folder.exists() and any(entry.name != LOCK for entry in folder.iterdir()):
            raise ConfigError(f"{folder}: holds files that are no sweep's; choose another output folder")
        started = prepare(config, threads)
        write_result(folder / SETTINGS, yaml.safe_dump(plain(started), sort_keys=False, allow_unicode=True).encode())
    if not (folder / PARTS).exists():
        write_parts(divide(config.data), folder / PARTS)
    return started


def prepare(config: SweepConfig, threads: int) -> Started:
    """Everything that is known before the first training; nothing is written."""
    content = tuple(digests(_files(config)))
    parts = divide(config.data)
    used = settled(config, len(parts.valid), threads)
    started = Started(given=config, used=used, available=parts.available, content=content)
    assert started.plan.points
    return started


def _files(config: SweepConfig) -> list[str]:
    """Everything that is read, beside packaged presets."""
    own = [preset for preset in config.presets if preset.endswith((".yaml", ".yml"))]
    return [*config.data.files, *config.data.test, *own]


def read_folder(folder: Path) -> Started:
    """The settings that a folder was started with."""
    return parse(read_yaml(folder / SETTINGS), Started, str(folder / SETTINGS))


def _require_same(started: Started, now: SweepConfig) -> None:
    """The same command again, or an error that says what is different."""
    changes = [
        f"{path}: was {before!r}, is {after!r}"
        for path, before, after in differences(plain(started.given), plain(now))
        if path not in _BY_CONTENT
    ]
    names = _files(now)
    if len(names) != len(started.content):
        changes.append(f"files: were {len(started.content)}, are {len(names)}")
    else:
        pairs = zip(names, started.content, strict=True)
        there = [(name, before) for name, before in pairs if Path(name).is_file()]
        changed = [name for name, before in there if digests([name]) != [before]]
        changes += [f"{name}: has another content" for name in changed]
    if changes:
        raise ConfigError(
            f"{now.output}: was started with other settings ({'; '.join(changes)}); "
            "go on with the former ones, or choose another output folder"
        )


def place_of(folder: Path, point: Point) -> Path:
    """The folder of a point."""
    return folder / POINTS / point.name


def read_result(folder: Path, point: Point) -> Result | None:
    """What a point came to, or None where it has not finished.

    Raises:
        CheckpointError: a result that cannot be read.
    """
    path = place_of(folder, point) / RESULT
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Result)
    except (OSError, msgspec.DecodeError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); remove it to run this point again") from None


def save_result(folder: Path, result: Result) -> None:
    """The result of a point, whole or not at all."""
    point = Point(result.row.preset, result.row.l_max, result.row.size, result.row.seed)
    write_result(place_of(folder, point) / RESULT, msgspec.json.format(msgspec.json.encode(result)))
