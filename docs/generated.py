"""References made from the code: every command with its options, every configuration with its keys, as Markdown.

A page asks for one with a line `<!-- generated: commands -->`, or with the full name of a configuration in its place.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import pkgutil
import re
from collections.abc import Iterator
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

MARK = re.compile(r"^<!-- generated: ([\w.]+) -->$", flags=re.M)


def fill(page: str) -> str:
    """A page with its marks replaced by the references they name."""
    return MARK.sub(lambda mark: commands() if mark[1] == "commands" else configuration(mark[1]), page)


def commands() -> str:
    """Every command of the program: what it does, its arguments and options."""
    import typer

    from mlanet.cli.main import app

    return "\n".join(_commands(typer.main.get_command(app), "mlanet"))


def _commands(command: Any, words: str) -> Iterator[str]:
    inner = getattr(command, "commands", {})
    if not inner:
        yield f"## `{words}`\n"
        yield _prose(command.help or "") + "\n"
        yield from _parameters(command.params)
    for name, one in inner.items():
        yield from _commands(one, f"{words} {name}")


def _parameters(parameters: list[Any]) -> Iterator[str]:
    shown = [one for one in parameters if not getattr(one, "hidden", False) and "--help" not in one.opts]
    if not shown:
        return
    yield "| option | default | meaning |\n|--|--|--|"
    for one in shown:
        is_option = one.param_type_name == "option"
        names = ", ".join(f"`{name}`" for name in (*one.opts, *one.secondary_opts)) if is_option else ""
        choices = getattr(one.type, "choices", None)
        word = names or f"`{one.metavar or one.name.upper()}`"
        meaning = _cell(getattr(one, "help", None) or "")
        if choices:
            meaning += " One of " + ", ".join(f"`{choice}`" for choice in choices) + "."
        yield f"| {word} | {_default(one)} | {meaning} |"
    yield ""


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = parameter.default() if callable(parameter.default) else parameter.default
    return "" if value is None or value is False or value == [] else f"`{value}`"


def configuration(name: str) -> str:
    """Every key of a configuration (a msgspec Struct) and of the sections in it: type, default, meaning."""
    return "\n".join(_sections(pkgutil.resolve_name(name), ""))


def _sections(struct: type[msgspec.Struct], place: str) -> Iterator[str]:
    hints, sections = get_type_hints(struct), []
    meanings = _meanings(struct)
    yield f"### `{place}`\n" if place else ""
    yield _prose(inspect.getdoc(struct) or "") + "\n"
    yield "| key | type | default | meaning |\n|--|--|--|--|"
    for field in msgspec.structs.fields(struct):
        inner = _struct(hints[field.name])
        if inner is not None:
            sections.append((inner, f"{place}.{field.name}" if place else field.name))
        meaning = meanings.get(field.name) or (inspect.getdoc(inner) if inner else "") or ""
        yield f"| `{field.name}` | {_type(hints[field.name])} | {_value(field)} | {_cell(meaning)} |"
    yield ""
    for inner, where in sections:
        yield from _sections(inner, where)


def _meanings(struct: type) -> dict[str, str]:
    """Key -> the string that stands below it in the source, those of base classes included."""
    found: dict[str, str] = {}
    for one in reversed(struct.__mro__):
        if not one.__module__.startswith("mlanet"):
            continue
        body = ast.parse(inspect.cleandoc("\n" + inspect.getsource(one))).body[0].body  # type: ignore[attr-defined]
        for line, below in itertools.pairwise(body):
            if isinstance(line, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(line.target, ast.Name):
                found[line.target.id] = str(ast.literal_eval(below.value))
    return found


def _struct(hint: Any) -> type[msgspec.Struct] | None:
    """The section behind a key: the Struct itself, or the values of a dictionary of them."""
    for one in (hint, *get_args(hint)):
        if isinstance(one, type) and issubclass(one, msgspec.Struct):
            return one
    return None


def _type(hint: Any) -> str:
    if _struct(hint) is not None:
        return "section" if isinstance(hint, type) else "sections by name"
    if get_origin(hint) is not None and str(get_origin(hint)) == "typing.Literal":
        return ", ".join(f"`{one}`" for one in get_args(hint))
    text = hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
    return "`" + text.replace("typing.", "").replace("NoneType", "None").replace("|", "or") + "`"


def _value(field: Any) -> str:
    if field.required:
        return "required"
    value = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    if isinstance(value, msgspec.Struct):
        return ""
    return f"`{msgspec.json.encode(value).decode()}`"


def _prose(text: str) -> str:
    """A docstring as Markdown; its line breaks are kept where a list or an empty line follows."""
    text = inspect.cleandoc(text).replace("\b\n", "")
    return re.sub(r"\[/?(?:bold|dim|cyan|green|red|yellow)\]", "", text).replace("<", "&lt;")


def _cell(text: str) -> str:
    """A text in a cell of a table."""
    return " ".join(_prose(text).split()).replace("|", "\\|")
