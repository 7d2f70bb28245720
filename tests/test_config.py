"""YAML to typed configuration and back: strict, with errors that name file, place, found and supported."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from mlanet.config import (
    parse,
    preset_names,
    preset_path,
    read_yaml,
    read_yaml_text,
    suggestion,
    to_data,
    to_yaml,
    with_overrides,
)
from mlanet.errors import ConfigError, MLANetError
from mlanet.models import ModelConfig, read_model_config
from mlanet.training.config import TrainConfig, model_config, read_train_config


class Round(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="round"):
    radius: float = 1.0


class Square(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="square"):
    side: float = 1.0
    corners: Literal["sharp", "soft"] = "sharp"


class Drawing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    shape: Round | Square
    width: int = 1
    points: tuple[int, ...] = ()
    title: str | None = None


GOOD: dict[str, Any] = {"shape": {"kind": "square", "side": 2.0}, "width": 3, "points": [1, 2]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lr: 1e-3", 0.001),
        ("lr: 1E4", 10000.0),
        ("lr: -2.5e-7", -2.5e-7),
        ("lr: .5e2", 50.0),
        ("lr: 1.e-3", 0.001),
        ("lr: e-3", "e-3"),
        ("lr: '1e-3'", "1e-3"),
        ("lr: 3", 3),
    ],
)
def test_numbers(text: str, expected: object) -> None:
    """Exponents without a point are numbers; quoted text stays text."""
    found = read_yaml_text(text, "here")["lr"]
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "here: line 3: key 'a' stands twice"),
        ("x:\n  a: 1\n  a: 3", "here: line 3: key 'a' stands twice"),
        ("a: [1, 2", "here: not valid YAML"),
        ("- 1\n- 2", "here: expected 'key: value' lines, found list"),
        ("", "here: expected 'key: value' lines, found NoneType"),
        ("hello", "found str"),
        ("a: !!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_broken_yaml(text: str, message: str) -> None:
    """Named source, named line, and no code is ever run from a file."""
    with pytest.raises(ConfigError, match=message):
        read_yaml_text(text, "here")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """No such file, a folder, and bytes that are no text."""
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ConfigError, match=r"binary\.yaml: cannot be read"):
        read_yaml(tmp_path / "binary.yaml")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (GOOD | {"widht": 3}, "f.yaml: unknown key 'widht'; did you mean 'width'.*known here: shape, width, points"),
        (GOOD | {"zzz": 3}, r"unknown key 'zzz' \(known here"),
        ({"shape": {"kind": "square", "sides": 2.0}}, "unknown key 'shape.sides'; did you mean 'side'"),
        ({"shape": {"kind": "round", "side": 2.0}}, r"unknown key 'shape\.side'.*known here: radius"),
        ({"shape": {"kind": "sqare"}}, "'shape.kind' is 'sqare'; did you mean 'square'.*known: round, square"),
        ({"shape": {}}, "'shape.kind' is None"),
        ({"shape": {"kind": "square", "corners": "round"}}, "'shape.corners' is 'round'; there is sharp, soft"),
        (GOOD | {"width": "three"}, "'width': Expected `int`, got `str`"),
        (GOOD | {"width": 2.5}, "'width': Expected `int`"),
        (GOOD | {"width": True}, "'width': Expected `int`, got `bool`"),
        (GOOD | {"points": [1, "x"]}, r"'points\[1\]': Expected `int`"),
        (GOOD | {"shape": 3}, "'shape'"),
        ({"width": 2}, "missing required field `shape`"),
        (GOOD | {1: 2}, "unknown key '1'"),
    ],
)
def test_what_does_not_fit(data: dict[str, Any], message: str) -> None:
    """Every error is a `ConfigError` that names the source and the place."""
    with pytest.raises(ConfigError, match=message) as caught:
        parse(data, Drawing, "f.yaml")
    assert str(caught.value).startswith("f.yaml: ") and caught.value.exit_status == 2


def test_a_key_of_another_section_is_led_there() -> None:
    """`seed` belongs to data and run: both are named, whole."""
    with pytest.raises(ConfigError, match=r"unknown key 'seed'; did you mean 'data.seed' or 'run.seed'\?"):
        parse({"seed": 1}, TrainConfig, "f.yaml")
    with pytest.raises(ConfigError, match=r"unknown key 'run.lr'; did you mean 'optimizer.lr'\?"):
        parse({"run": {"lr": 1}}, TrainConfig, "f.yaml")


@pytest.mark.parametrize("given", ["model: mlanet_l1\n", "model: {model: leignn, channels: 8}\n", ""])
@pytest.mark.parametrize("words", [["model.repulsion=zbl", "run.seed=3"], ["model.repulsion=zbl", "model=leignn_64"]])
def test_one_key_of_a_preset_is_changed(tmp_path: Path, given: str, words: list[str]) -> None:
    """On top of a name, of keys, or of nothing; the order of words does not matter."""
    path = tmp_path / "train.yaml"
    path.write_text("data: {train: [a.extxyz]}\nbudget: {steps: 1}\nrun: {folder: run}\n" + given)
    named = "leignn_64" if "model=leignn_64" in words else {"m": "mlanet_l1", "": "mlanet_l2"}.get(given[7:8])
    for order in (words, words[::-1]):
        found = model_config(read_train_config(path, order))
        assert found.repulsion == "zbl"
        if named is not None:
            assert to_data(found) == to_data(read_model_config(named)) | {"repulsion": "zbl"}
    with pytest.raises(ConfigError, match="unknown key 'repulsin'; did you mean 'repulsion'"):
        model_config(read_train_config(path, ["model.repulsin=zbl"]))


def test_round_trip_through_text() -> None:
    """Struct -> YAML text -> Struct is the identity, defaults, tuples, None and tags included."""
    config = parse(GOOD, Drawing, "f.yaml")
    assert config.shape == Square(side=2.0) and config.points == (1, 2)
    assert parse(read_yaml_text(to_yaml(config), "text"), Drawing, "text") == config
    assert list(to_data(config)) == ["shape", "width", "points", "title"]


@pytest.mark.parametrize("name", preset_names())
def test_presets_survive_text(name: str) -> None:
    """The same for every preset, at most 20 lines each, every line a comment or a known key."""
    config = read_model_config(name)
    assert parse(read_yaml_text(to_yaml(config), name), ModelConfig, name) == config
    assert len(preset_path(name).read_text(encoding="utf-8").splitlines()) <= 20


def test_overrides() -> None:
    """Dotted keys, values read as YAML, new places made, the given data left alone."""
    data = {"model": {"layers": 3}, "seed": 1}
    words = ["model.layers=2", "optimizer.lr=1e-3", "title=a=b", "points=[1, 2]", "empty="]
    found = with_overrides(data, words)
    assert found == {
        "model": {"layers": 2},
        "seed": 1,
        "optimizer": {"lr": 0.001},
        "title": "a=b",
        "points": [1, 2],
        "empty": None,
    }
    assert data == {"model": {"layers": 3}, "seed": 1}


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("seed", "override 'seed': expected key=value"),
        ("=3", "expected key=value"),
        ("seed.sub=3", "'seed' is a single value"),
        ("seed=[1", "not valid YAML"),
        ("seed={a: 1, a: 2}", "stands twice"),
    ],
)
def test_overrides_that_cannot_be(word: str, message: str) -> None:
    """The word is quoted."""
    with pytest.raises(ConfigError, match=message):
        with_overrides({"seed": 1}, [word])


def test_presets_and_paths(tmp_path: Path) -> None:
    """A preset by name, a user's file by path, and a guess for a misspelt name."""
    assert preset_path("mlanet_l2").is_file() and preset_path(tmp_path / "my.yaml") == tmp_path / "my.yaml"
    with pytest.raises(ConfigError, match=r"no preset 'mlanet_l22'; did you mean 'mlanet_l2'\?; presets: "):
        preset_path("mlanet_l22")
    with pytest.raises(MLANetError, match=r"my\.yaml: no such file"):
        read_model_config(tmp_path / "my.yaml")


def test_suggestions_are_near_or_none() -> None:
    """A wild guess helps nobody."""
    assert suggestion("cutof", ["cutoff", "heads"]) == "; did you mean 'cutoff'?"
    assert suggestion("banana", ["cutoff", "heads"]) == ""


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("layers: 2", "model.layers"),
        ("run: {folder: b, cutoff: 5.0}", "model.cutoff"),
        ("channels: 8", "model.channels"),
        ("lr: 0.01", "optimizer.lr"),
        ("model: {model: mlanet, irreps: 8x0e+8x1o, lr: 0.01}", "optimizer.lr"),
        ("model: {model: leignn, max_structures: 4}", "budget.max_structures"),
    ],
)
def test_a_key_at_the_wrong_level_is_told_its_place(text: str, place: str, tmp_path: Path) -> None:
    """Whether it belongs to the training or to the model."""
    lines = ["data: {train: [a]}", "budget: {steps: 1}", "run: {folder: b}"]
    path = tmp_path / "train.yaml"
    path.write_text("\n".join([*(line for line in lines if line.split(":")[0] != text.split(":")[0]), text]))
    assert place in _message(path).partition("(known here")[0]


def _message(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        model_config(read_train_config(path))
    return str(caught.value)
