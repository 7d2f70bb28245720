"""`mlanet info`: what a model or preset is, before it is used."""

from __future__ import annotations

from typing import Annotated

import typer

from mlanet.cli.output import Json, print_json, print_pairs


def info(
    model: Annotated[
        str, typer.Argument(help="A packaged model, a model file, or a preset.", metavar="MODEL_OR_PRESET")
    ],
    json: Json = False,
) -> None:
    """Show configuration, elements, parameters, cutoff, card and digest of a model, or the size of a preset."""
    from mlanet.workflows.describe import describe

    document = describe(model)
    if json:
        print_json(document)
        return
    print_pairs("", _lines(document))


def _lines(document: dict[str, object], place: str = "") -> list[tuple[str, str]]:
    """Nested data as dotted names and values."""
    lines: list[tuple[str, str]] = []
    for key, value in document.items():
        name = f"{place}{key}"
        if isinstance(value, dict) and value:
            lines += _lines(value, f"{name}.")
        else:
            lines.append((name, _text(value)))
    return lines


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return " ".join(_text(each) for each in value)
    return "-" if value is None else str(value)
