"""Every Python block of the README and the docs runs as printed, and every word of the program in them is one."""

from __future__ import annotations

import functools
import importlib.util
import inspect
import pkgutil
import re
import shlex
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec
import pytest
import typer
import yaml

import mlanet
from mlanet.calculator import MLANetCalculator
from mlanet.cli.main import app, main
from mlanet.config import _check_keys as check_keys
from mlanet.config import parse
from mlanet.data.dataset import load_samples
from mlanet.distill.config import DistillConfig
from mlanet.dynamics.settings import DynamicsSettings
from mlanet.errors import ConfigError
from mlanet.models import ModelConfig
from mlanet.other_keys import OTHER_KEYS
from mlanet.sweep.config import SweepConfig
from mlanet.training.config import TrainConfig
from mlanet.training.state import REMOVED
from mlanet.workflows.relax import relaxation

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = {"ids": lambda page: str(page.relative_to(ROOT))}
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")


FOREIGN = re.compile(r"\b(twins?|mend(s|ed|ing)?|soundness|took over \d|by heart)\b|laws of physics", flags=re.I)
"""Words that this field has others for: reference, fix, physical consistency, loaded, physical consistency checks."""


def is_record(page: Path) -> bool:
    """Whether a page is kept as it was written at the time: decisions, the changelog."""
    return page.parent.name == "decisions" or page.stem == "CHANGELOG"


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.M | re.S)


WALKED = {
    "quickstart",
    *(f"tutorial_{name}" for name in ("active_learning", "finetune", "md", "predict", "relax")),
}
"""Pages whose commands run too, in order, on nothing but what the page makes."""


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)], **NAMES)
def test_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a reader copies from a page works, block after block, in one session and one folder."""
    monkeypatch.chdir(tmp_path)
    session = {"__name__": page.stem}
    text = page.read_text(encoding="utf-8")
    for language, block in re.findall(r"^```(python|sh|yaml)\n(.*?)^```", text, flags=re.M | re.S):
        if language == "python":
            exec(compile(block, page.name, "exec"), session)
        elif page.stem in WALKED and (name := re.match(r"# (\w+\.yaml)\n", block)):
            Path(name[1]).write_text(block, encoding="utf-8")
        elif page.stem in WALKED and language == "sh":
            for line in block.replace("\\\n", " ").splitlines():
                _program, *words = shlex.split(line.split(" #")[0])
                assert main(words) == 0, line


def test_files_of_cp2k_are_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script of the tutorial reads the files that CP2K writes, with energies and forces in eV and Å."""
    monkeypatch.chdir(tmp_path)
    head = " i = {0:8d}, time = {1:12.3f}, E = {2:20.10f}\n"
    for kind, places in (("pos", "Si 0.0 0.0 0.0\n Si 1.35 1.35 1.35"), ("frc", "Si 0.0 0.0 0.01\n Si 0.0 0.0 -0.01")):
        text = "".join(f"       2\n{head.format(k, 0.5 * k, -7.9 - k)} {places}\n" for k in range(2))
        Path(f"run-{kind}-1.xyz").write_text(text)
    cells = "".join(f"{k:8d} {0.5 * k:12.3f} 0.0 2.7 2.7 2.7 0.0 2.7 2.7 2.7 0.0 39.366\n" for k in range(2))
    Path("run-1.cell").write_text(f"#   Step   Time [fs]       Ax [Angstrom] ... Volume [Angstrom^3]\n{cells}")
    page = (ROOT / "docs/tutorial_train.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```\{code-block\} python\n(.*?)^```", page, flags=re.M | re.S)
    exec(compile(block, "tutorial_train", "exec"), {"__name__": "tutorial_train"})
    first, second = load_samples("all.extxyz", 3.0)
    assert float(first.labels.energy) == pytest.approx(-7.9 * 27.211386, rel=1e-6)
    assert float(second.labels.forces[0, 2]) == pytest.approx(0.01 * 51.422067, rel=1e-6)
    assert first.graph.pbc.all()


def test_the_story_of_the_log_names_every_entry() -> None:
    """The page of the log links to every entry; an entry's name has its date, so that the newest come first."""
    entries = {path.name for path in (ROOT / "docs" / "log").iterdir()}
    assert set(re.findall(r"\(log/([^)]+)\)", (ROOT / "docs" / "log.md").read_text(encoding="utf-8"))) == entries
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d-\d-\w+\.md", name) for name in entries)


@pytest.mark.parametrize("page", [page for page in PAGES if not is_record(page)], **NAMES)
def test_pages_read_well(page: Path) -> None:
    """Lines of at most 120 characters, tables of at most seven columns, the field's words, formulas without TeX."""
    lines = page.read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if not line.startswith("|") and len(line) > 120]
    assert not [line for line in lines if line.startswith("|") and line.replace("\\|", "").count("|") > 8]
    assert not [line for line in lines if FOREIGN.search(line)]
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", "\n".join(lines), flags=re.S)
    assert not re.search(r"\$[^$\n]+\$", prose), "nothing sets TeX: formulas are written out"


def test_every_page_is_on_the_site() -> None:
    """From the start page, contents lead to every page of docs/."""
    found, waiting = set(), [ROOT / "docs" / "index.md"]
    while waiting:
        page = waiting.pop()
        if page in found:
            continue
        found.add(page)
        for block in re.findall(r"^```\{toctree\}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.M | re.S):
            for entry in block.splitlines():
                if entry and not entry.startswith(":"):
                    waiting += sorted(page.parent.glob(f"{entry}.md"))
    assert found == set((ROOT / "docs").rglob("*.md"))


@pytest.fixture(scope="module")
def generated() -> Any:
    """The module that makes references from the code."""
    spec = importlib.util.spec_from_file_location("generated", ROOT / "docs" / "generated.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_of_commands_is_complete(generated: Any) -> None:
    """Every command that does something has a section, with every option in it."""
    sections = dict(re.findall(r"^## `(.*?)`\n(.*?)(?=^## |\Z)", generated.commands() + "\n", flags=re.M | re.S))
    working = {" ".join(("mlanet", *words)): one for words, one in commands().items() if not hasattr(one, "commands")}
    assert sections.keys() == working.keys()
    for name, command in working.items():
        assert not [one for one in options(command) if one[0] == "-" and one != "--help" and one not in sections[name]]


@pytest.mark.parametrize("page", ["commands", "configuration"])
def test_marks_of_references_are_filled(generated: Any, page: str) -> None:
    """A page that asks for a reference gets it; its tables have a meaning for every key that is no section."""
    text = generated.fill((ROOT / "docs" / "reference" / f"{page}.md").read_text(encoding="utf-8"))
    assert "<!-- generated" not in text
    assert not [line for line in text.splitlines() if re.fullmatch(r"\| `\w+` \| `.*` \| .* \|  \|", line)]


@pytest.mark.parametrize("struct", [TrainConfig, SweepConfig, DistillConfig, DynamicsSettings, *get_args(ModelConfig)])
def test_the_reference_of_keys_is_complete(generated: Any, struct: Any) -> None:
    """Every key of a configuration has a row, and its page names the configuration."""
    name = f"{struct.__module__}.{struct.__qualname__}"
    rows = re.findall(r"^\| `(\w+)` \|", generated.configuration(name), flags=re.M)
    assert set(struct.__struct_fields__) <= set(rows)
    assert f"<!-- generated: {name} -->" in (ROOT / "docs/reference/configuration.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, **NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    """A link to a file of the project names one that exists."""
    missing = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if not (page.parent / link).exists()]
    assert not missing


CONFIGURATIONS: tuple[Any, ...] = (TrainConfig, SweepConfig, DistillConfig, DynamicsSettings, *get_args(ModelConfig))
SECTIONS = {"data", "budget", "run", "model", "loss", "optimizer", "schedule"}
FILES = {"safetensors", "yaml", "extxyz"}
"""Endings of files, which sections have no keys for."""
ELSEWHERE = {"--no-build-isolation", "--nnodes", "--nproc-per-node", "--rdzv-endpoint"}
"""Options of pip and torchrun."""
BENCHMARKED = r"mlanet_l\d_small|painn_itself"
"""Models that only tables of measurements name."""
NO_KEYS = {
    "error: what, where, what is supported": "how an error reads",
    "compile_mode: compile": "a setting of NequIP's",
    "OEQ_NOTORCH=1": "environment variables of others",
    "lattice=": "what is refused in an extxyz",
    "properties=": "what is refused in an extxyz",
}


def is_history(page: Path) -> bool:
    """Whether a page tells what was decided or measured once, with what has since gone."""
    return page.parent.name in ("decisions", "log")


def code(page: Path) -> tuple[list[str], dict[str, list[str]]]:
    """Inline code of a page, and its blocks by language."""
    text = page.read_text(encoding="utf-8")
    blocks: dict[str, list[str]] = {}
    for indent, language, block in re.findall(r"^( *)```(\w*)\n(.*?)^ *```", text, flags=re.M | re.S):
        blocks.setdefault(language, []).append(re.sub(rf"^{indent}", "", block, flags=re.M))
    plain = re.sub(r"^ *```.*?^ *```", "", text, flags=re.M | re.S)
    return re.findall(r"`([^`\n]+)`", plain), blocks


def shell(blocks: dict[str, list[str]]) -> list[str]:
    """Blocks of commands: marked so, or not marked at all."""
    return [*blocks.get("sh", []), *blocks.get("", [])]


def command_lines(page: Path) -> list[list[str]]:
    """Words behind `mlanet` wherever a page calls it, in blocks and inline, with what stands in brackets."""
    inline, blocks = code(page)
    lines = [line.split(" #")[0] for block in shell(blocks) for line in block.replace("\\\n", " ").splitlines()]
    parts = [part.strip() for line in [*lines, *inline] for part in re.split(r"&&|;|\|", line)]
    found = [re.search(r"(?:^|[= ]\S* |-m )mlanet (.*)", part) for part in parts]
    return [shlex.split(re.sub(r"[][]", " ", one[1])) for one in found if one is not None]


def scripts(page: Path) -> list[list[str]]:
    """Words behind `python` where a page calls a script of the project."""
    inline, blocks = code(page)
    lines = [line for block in shell(blocks) for line in block.splitlines()]
    found = [re.search(r"(?:^|/)python3? ((?:benchmarks|tests)/.*)", line) for line in [*lines, *inline]]
    return [one[1].split("#")[0].split() for one in found if one is not None]


@functools.cache
def commands() -> dict[tuple[str, ...], Any]:
    """Every command of the program by its words."""
    found: dict[tuple[str, ...], Any] = {}

    def walk(command: Any, words: tuple[str, ...]) -> None:
        found[words] = command
        for name, one in getattr(command, "commands", {}).items():
            walk(one, (*words, name))

    walk(typer.main.get_command(app), ())
    return found


def options(command: Any) -> dict[str, Any]:
    """--name -> the parameter of a command."""
    return {name: one for one in command.params for name in (*one.opts, *one.secondary_opts)} | {"--help": None}


def wrong_command(words: list[str]) -> str:
    """What of a command line does not exist; empty if all does."""
    known, path = commands(), []
    while words and (*path, words[0]) in known:
        path.append(words.pop(0))
    command = known[tuple(path)]
    if getattr(command, "commands", {}) and words and not words[0].startswith("-") and words[0] != "…":
        return f"mlanet {' '.join(path)} has no command {words[0]}"
    had = options(command)
    for word, following in zip(words, [*words[1:], ""], strict=False):
        if not word.startswith("-") or re.fullmatch(r"-[\d.]+", word):
            continue
        if word.split("=")[0] not in had:
            return f"mlanet {' '.join(path)} has no option {word}"
        choices = getattr(getattr(had[word.split("=")[0]], "type", None), "choices", None)
        if choices and following.islower() and following not in choices:
            return f"mlanet {' '.join(path)} {word}: {following} is none of {', '.join(choices)}"
    if path and path[-1] in ("train", "sweep"):
        return next((problem for word in words if "=" in word and (problem := wrong_key(word.partition("=")[0]))), "")
    return ""


@functools.cache
def fields() -> dict[str, list[Any]]:
    """Key -> the types it has in any configuration, at any depth."""
    found: dict[str, list[Any]] = {}

    def walk(struct: Any) -> None:
        found.setdefault(struct.__struct_config__.tag_field or "", []).append(str)
        for name, hint in get_type_hints(struct, include_extras=True).items():
            if name in struct.__struct_fields__:
                found.setdefault(name, []).append(hint)
                if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
                    walk(hint)

    for one in CONFIGURATIONS:
        walk(one)
    return found


def wrong_key(dotted: str) -> str:
    """Why no configuration has such a key, e.g. `budget.max_edges`; empty if one has."""
    first, *rest = dotted.split(".")
    if not rest:
        return "" if first in fields() else f"no key {dotted}"
    starts: list[Any] = list(get_args(ModelConfig)) if first == "model" else []
    starts += [get_type_hints(one).get(first) for one in (TrainConfig, SweepConfig)]
    return "" if dotted == "model.channels" or any(leads(one, rest) for one in starts) else f"no key {dotted}"


def leads(struct: Any, keys: list[str]) -> bool:
    """Whether a Struct has the first key, and what stands there the others."""
    if not keys:
        return True
    return keys[0] in getattr(struct, "__struct_fields__", ()) and leads(get_type_hints(struct)[keys[0]], keys[1:])


def wrong_value(key: str, value: Any) -> str:
    """Why no configuration takes a value there; placeholders, prose and values of the past are left alone."""
    if value in REMOVED.get(key, ()):
        return ""
    placeholder = isinstance(value, str) and (value.isupper() or " " in value or "=" in value)
    for hint in fields()[key]:
        try:
            if placeholder or msgspec.convert(value, hint) is not None or value is None:
                return ""
        except msgspec.ValidationError:
            continue
    return f"{key} cannot be {value!r}"


def wrong_setting(span: str) -> str:
    """What of `key: value, key: value` or `a.b=value` no configuration has; empty if it is something else."""
    if dotted := re.fullmatch(r"([a-z_]+(?:\.[a-z_0-9]+)+)(=.*)?", span):
        section, _, key = dotted[1].partition(".")
        return wrong_key(dotted[1]) if section in SECTIONS and key not in FILES else ""
    if re.match(r"[a-z_0-9]+: ", span):
        alternatives = re.split(r" \| ", span)
        try:
            pairs = yaml.safe_load("{" + alternatives[0] + "}")
        except yaml.YAMLError:
            pairs = yaml.safe_load(alternatives[0])
        key = next(iter(pairs))
        problems = [wrong_key(name) or wrong_value(name, value) for name, value in pairs.items()]
        problems += [wrong_value(key, other) for other in alternatives[1:] if not problems[0]]
        return next(filter(None, problems), "")
    names = re.findall(r"(?<![\w.-])([a-z_]+)=(?!=)", span) if " " not in span or "(" in span else []
    calls = {name for one in (MLANetCalculator, mlanet.load, relaxation) for name in inspect.signature(one).parameters}
    return next((f"nothing is called {name}=" for name in names if name not in fields() and name not in calls), "")


@pytest.mark.parametrize("page", [page for page in PAGES if command_lines(page)], **NAMES)
def test_named_commands_and_options_exist(page: Path) -> None:
    """Every command with its options, choices and keys that a page names, inline or in a block, exists."""
    assert not [problem for words in command_lines(page) if (problem := wrong_command(words))]


@pytest.mark.parametrize("page", PAGES, **NAMES)
def test_named_options_and_scripts_exist(page: Path) -> None:
    """An option named alone is one of some command; a script is there, and its options stand in it."""
    ours = {name for command in commands().values() for name in options(command)} | ELSEWHERE
    sources = [one.read_text() for folder in ("benchmarks", "tests") for one in (ROOT / folder).rglob("*.py")]
    theirs = set(re.findall(r'"(--[a-z-]+)"', "".join(sources)))
    spans = [span for span in code(page)[0] if not (is_history(page) and span.startswith("python benchmarks/"))]
    named = [word for span in spans for word in re.findall(r"(?<![\w-])--[a-z][a-z-]*", span)]
    assert not [word for word in named if word not in ours | theirs]
    called = scripts(page)
    if not is_history(page):
        assert not [words[0] for words in called if not (ROOT / words[0]).exists()]
        assert not [word for words in called for word in words if re.match("--[a-z]", word) and word not in theirs]


@pytest.mark.parametrize("page", PAGES, **NAMES)
def test_named_keys_exist(page: Path) -> None:
    """Every `key: value`, `section.key` and `key=value` is one of a configuration or call, with a value it takes."""
    spans = [
        span for span in code(page)[0] if span not in NO_KEYS and not re.match(r"(mlanet|python|make|pip) |--", span)
    ]
    assert not [problem for span in spans if (problem := wrong_setting(span))]


@pytest.mark.parametrize("page", [page for page in PAGES if not is_history(page)], **NAMES)
def test_named_identifiers_exist(page: Path) -> None:
    """A name with an underscore, alone in inline code, stands in the program: a key, a column, a function."""
    named = {span for span in code(page)[0] if re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)+", span)}
    assert not {one for one in named if not re.fullmatch(BENCHMARKED, one)} - source_words()


@functools.cache
def source_words() -> set[str]:
    """Every word of the program, its tests and benchmarks."""
    folders = [ROOT / one for one in ("mlanet", "benchmarks", "irreps_configs")]
    files = [one for folder in folders for one in folder.rglob("*") if one.suffix in (".py", ".yaml")]
    words = {word for one in files for word in re.findall(r"\w+", one.read_text(encoding="utf-8"))}
    return words | {one.stem for one in files}


@pytest.mark.parametrize("page", PAGES, **NAMES)
def test_named_modules_exist(page: Path) -> None:
    """`mlanet.a.b` is a module, or something in one."""
    for span in code(page)[0]:
        if re.fullmatch(r"mlanet(\.\w+)+", span):
            pkgutil.resolve_name(span)


@pytest.mark.parametrize("page", [page for page in PAGES if "yaml" in code(page)[1]], **NAMES)
def test_printed_configurations_are_understood(page: Path) -> None:
    """A block of YAML has keys of one configuration only: a training's, a sweep's, or a model's."""
    for block in code(page)[1]["yaml"]:
        data, problems = yaml.safe_load(block), []
        for kind in (TrainConfig, SweepConfig, DistillConfig, ModelConfig):
            try:
                check_keys(data, kind, "", "", {"": kind})
                break
            except ConfigError as error:
                problems.append(str(error))
        else:
            assert data.get("model") == "lennard_jones", problems


@pytest.mark.parametrize("word", OTHER_KEYS)
def test_keys_of_other_packages_are_answered_with_ours(word: str) -> None:
    """Whoever brings a key of MACE's or NequIP's is told one that exists, wherever the key stands."""
    for data in ({word: 1}, {"data": {word: 1}}):
        with pytest.raises(ConfigError, match=f"unknown key '.*{word}'; what it is in (MACE|NequIP)"):
            parse(data, TrainConfig, "theirs.yaml")
    answer = OTHER_KEYS[word][1]
    named = re.findall(rf"\b(?:{'|'.join(SECTIONS)})\.[a-z_.]+[a-z]", answer)
    first = re.match(r"[a-z_]+", answer)
    assert (
        named or answer.startswith(("found from", "mlanet ")) or (first and first[0] in TrainConfig.__struct_fields__)
    )
    assert not [problem for one in named if (problem := wrong_key(one))]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("train config.yaml --plans", "has no option --plans"),
        ("trian config.yaml", "has no command trian"),
        ("md si.cif --ensemble nvt", "nvt is none of"),
        ("train config.yaml optimiser.lr=1", "no key optimiser.lr"),
        ("profile speeds leignn", "has no command speeds"),
    ],
)
def test_a_wrong_command_is_found(line: str, problem: str) -> None:
    """The checks above can fail."""
    assert problem in wrong_command(line.split())


@pytest.mark.parametrize("span", ["pooling: locale", "poolng: local", "run.compile", "chanels=8"])
def test_a_wrong_key_is_found(span: str) -> None:
    """The checks above can fail."""
    assert wrong_setting(span)


def test_every_picture_is_shown_and_made() -> None:
    """A page shows each picture of docs/figures; what docs/figures.py names is there."""
    pages = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    there = {path.name for path in (ROOT / "docs/figures").iterdir()}
    assert there == set(re.findall(r"figures/([\w.]+)\)", pages))
    made = (ROOT / "docs/figures.py").read_text(encoding="utf-8")
    drawn = ", ".join(re.findall(r"^(?:DRAWN|EXPLAINED) = .* for one in \((.*)\)}", made, flags=re.M))
    tutorials = re.findall(r'^    "(\w+)": \(', made, flags=re.M)
    assert drawn and {*drawn.split(", "), *tutorials} <= {Path(name).stem for name in there}
