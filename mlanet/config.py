"""Text to frozen, typed configuration and back, once and strictly; knows no model.

A configuration is a msgspec Struct. An unknown key, a wrong type or an impossible value is a `ConfigError` that
names the file, the place in it, what was found and what is supported, with a guess at the word that was meant.
"""

from __future__ import annotations

import difflib
import math
import os
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints, overload

import msgspec
import yaml

from mlanet.errors import ConfigError
from mlanet.other_keys import ours_for
from mlanet.yaml_text import MOST_BYTES, value_of

T = TypeVar("T")
Beside = Mapping[str, Any]
NOTHING: Beside = types.MappingProxyType({})


def read_yaml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The mapping in a YAML file; `ConfigError` names the file and the line of what is wrong."""
    try:
        with open(path, "rb") as file:
            text = file.read(MOST_BYTES + 1).decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    return read_yaml_text(text, str(path))


def read_yaml_text(text: str, source: str) -> dict[str, Any]:
    """The mapping in a YAML text; `source` is named in errors.

    >>> read_yaml_text("lr: 1e-3", "here")
    {'lr': 0.001}
    """
    try:
        data = value_of(text)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{source}: expected 'key: value' lines, found {type(data).__name__}")
    return data


@overload
def parse(data: Mapping[str, Any], into: type[T], source: str, beside: Beside = ...) -> T: ...
@overload
def parse(data: Mapping[str, Any], into: types.UnionType, source: str, beside: Beside = ...) -> Any: ...
def parse(data: Mapping[str, Any], into: Any, source: str, beside: Beside = NOTHING) -> Any:
    """Plain data to a Struct, strictly.

    Args:
        data: what a YAML or JSON file holds.
        into: a Struct, or a union of tagged Structs.
        source: named in errors, usually the file.
        beside: other types, by the dotted place of their keys in the same document: where a key that is unknown here
            may belong.
    Raises:
        ConfigError: unknown key (with a suggestion), wrong type, impossible value, a number that is not finite.
    """
    _require_finite(data, source, "")
    _check_keys(data, into, source, "", {"": into, **beside})
    try:
        return msgspec.convert(data, into, strict=True)
    except (msgspec.ValidationError, OverflowError) as error:
        raise ConfigError(f"{source}: {_readable(str(error))}") from None


def to_data(config: msgspec.Struct) -> dict[str, Any]:
    """A Struct as plain data; `parse` of the result gives an equal Struct."""
    return msgspec.to_builtins(config)


def to_yaml(config: msgspec.Struct) -> str:
    """A Struct as YAML text, keys in the order of their definition."""
    return yaml.safe_dump(to_data(config), sort_keys=False, allow_unicode=True)


def with_overrides(data: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Apply `key.sub=value` words of a command line to plain data; values are read as YAML.

    >>> with_overrides({"model": {"layers": 3}}, ["model.layers=2", "optimizer.lr=1e-3"])
    {'model': {'layers': 2}, 'optimizer': {'lr': 0.001}}
    """
    result: dict[str, Any] = _copied(data)
    for word in overrides:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise ConfigError(f"override '{word}': expected key=value, e.g. optimizer.lr=1e-3")
        try:
            value = value_of(text)
        except ConfigError as error:
            raise ConfigError(f"override '{word}': {error}") from None
        *parents, last = key.split(".")
        place = result
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise ConfigError(f"override '{word}': '{parent}' is a single value, it has no key below it")
        place[last] = value
    return result


def preset_folder() -> Path:
    """Where the packaged YAML presets are, in an installed wheel as well as in a clone."""
    here = Path(__file__).resolve().parent
    for folder in (here / "irreps_configs", here.parent / "irreps_configs"):
        if folder.is_dir():
            return folder
    raise ConfigError("the folder irreps_configs is missing from this installation; please reinstall mlanet")


def preset_names() -> list[str]:
    """Names of the packaged presets, e.g. `mlanet_l2`."""
    return sorted(path.stem for path in preset_folder().glob("*.yaml"))


def preset_path(name: str | os.PathLike[str]) -> Path:
    """A preset's name or a path to a user's own YAML -> the file.

    >>> preset_path("mlanet_l2").name
    'mlanet_l2.yaml'
    """
    packaged = preset_folder() / f"{name}.yaml"
    if packaged.is_file():
        return packaged
    if str(name).endswith((".yaml", ".yml")) or os.sep in str(name):
        return Path(name)
    raise ConfigError(
        f"no preset '{name}'{suggestion(str(name), preset_names())}; presets: {', '.join(preset_names())}"
    )


def differences(old: Any, new: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    """Leaves in which two trees of settings differ: the dotted path, the old value, the new one."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return [] if old == new else [(path, old, new)]
    keys = dict.fromkeys([*old, *new])
    parts = [differences(old.get(key), new.get(key), f"{path}.{key}" if path else key) for key in keys]
    return [difference for part in parts for difference in part]


def require_at_most(config: msgspec.Struct, most: Mapping[str, float]) -> None:
    """Raise `ValueError` for a number, of any key named in `most`, beyond what is supported there."""
    for name, limit in most.items():
        if (value := getattr(config, name)) is not None and value > limit:
            raise ValueError(f"{name} must be at most {limit:g}, got {value}")


def suggestion(word: str, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"`, or nothing when no known word is near.

    >>> suggestion("leyers", ["layers", "heads"])
    "; did you mean 'layers'?"
    """
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""


def _copied(data: Any) -> Any:
    """A deep copy of nested mappings, so that overriding never changes the caller's data."""
    return {key: _copied(value) for key, value in data.items()} if isinstance(data, Mapping) else data


def _require_finite(data: Any, source: str, place: str) -> None:
    """Refuse NaN, infinity and integers beyond 63 bits, wherever they stand."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            _require_finite(value, source, f"{place}.{key}" if place else str(key))
    elif isinstance(data, list | tuple):
        for index, value in enumerate(data):
            _require_finite(value, source, f"{place}[{index}]")
    elif (isinstance(data, float) and not math.isfinite(data)) or (isinstance(data, int) and abs(data) >= 2**63):
        raise ConfigError(f"{source}: '{place}' is {data:.3g}, not a number that can be used")


def _check_keys(data: Any, into: Any, source: str, place: str, whole: Beside) -> None:
    """Walk data and type together and report the first unknown key with its path, and what was meant."""
    struct = _struct_for(data, into, source, place)
    if struct is None or not isinstance(data, Mapping):
        return
    fields = {field.encode_name: field.name for field in msgspec.structs.fields(struct)}
    tag = struct.__struct_config__.tag_field
    hints = get_type_hints(struct)
    for key, value in data.items():
        path = f"{place}.{key}" if place else str(key)
        if key == tag:
            continue
        if key not in fields:
            known = ", ".join(fields)
            meant = ours_for(str(key)) or _elsewhere(str(key), whole) or suggestion(str(key), fields)
            raise ConfigError(f"{source}: unknown key '{path}'{meant} (known here: {known})")
        _check_choice(value, hints[fields[key]], source, path)
        _check_keys(value, hints[fields[key]], source, path, whole)


def _check_choice(value: Any, hint: Any, source: str, path: str) -> None:
    """A word where one of several is asked for: which there are, and what was meant."""
    words = get_args(hint) if get_origin(hint) is Literal else ()
    if isinstance(value, str) and words and value not in words:
        near = suggestion(value, map(str, words))
        raise ConfigError(f"{source}: '{path}' is {value!r}{near}; there is {', '.join(map(str, words))}")


def _elsewhere(key: str, whole: Beside) -> str:
    """`"; did you mean 'run.seed'?"` where the key belongs to another section, or nothing."""
    places = [place for start, one in whole.items() for place in _places(one, start)]
    matching = [place for place in dict.fromkeys(places) if place.rpartition(".")[2] == key]
    return f"; did you mean {' or '.join(repr(place) for place in matching)}?" if matching else ""


def _places(struct: Any, place: str = "") -> Iterable[str]:
    """Dotted names of all keys of a Struct, or of any Struct of a union, and of the Structs in it."""
    if get_origin(struct) in (Union, types.UnionType):
        for option in get_args(struct):
            yield from _places(option, place)
    if not (isinstance(struct, type) and issubclass(struct, msgspec.Struct)):
        return
    hints = get_type_hints(struct)
    for field in msgspec.structs.fields(struct):
        yield place + field.encode_name
        yield from _places(hints[field.name], f"{place}{field.encode_name}.")


def _struct_for(data: Any, into: Any, source: str, place: str) -> type[msgspec.Struct] | None:
    """The Struct that `data` should become: the type itself, or the member of a union that the tag names."""
    options = get_args(into) if get_origin(into) in (Union, types.UnionType) else (into,)
    structs = [option for option in options if isinstance(option, type) and issubclass(option, msgspec.Struct)]
    if len(structs) <= 1:
        return structs[0] if structs else None
    field = structs[0].__struct_config__.tag_field
    tags = {struct.__struct_config__.tag: struct for struct in structs}
    if not isinstance(data, Mapping):
        return None
    tag = data.get(field)
    if tag not in tags:
        where = f"{place}.{field}" if place else field
        raise ConfigError(
            f"{source}: '{where}' is {tag!r}{suggestion(str(tag), map(str, tags))}; known: {', '.join(map(str, tags))}"
        )
    return tags[tag]


def _readable(message: str) -> str:
    """msgspec's message with the place first: "optimizer.lr: Expected `float`, got `str`"."""
    text, _, place = message.partition(" - at `$")
    place = place.rstrip("`").lstrip(".")
    return f"'{place}': {text}" if place else text
