"""`mlanet info`: what a model or preset is, before it is used."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mlanet.cli.options import Json
from mlanet.cli.output import print_json, print_pairs


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
    last = {key: document.pop(key) for key in ("config",) if key in document}  # the card is asked for more often
    print_pairs("", _lines(document | last))


def _lines(document: dict[str, Any], place: str = "") -> list[tuple[str, str]]:
    """Nested data as dotted names and values; errors with their units."""
    from mlanet.quantities import QUANTITIES

    kinds = [(quantity, kind) for quantity in QUANTITIES for kind in ("mae", "rmse")]
    errors = {f"valid_{one.name}_{kind}": (f"{one.name} {kind.upper()}", one) for one, kind in kinds}
    lines: list[tuple[str, str]] = []
    for key, value in document.items():
        name = f"{place}{key}"
        if isinstance(value, dict) and value:
            lines += _lines(value, f"{name}.")
        elif key in errors and isinstance(value, float):
            told, one = errors[key]
            lines.append((f"{place}{told}", f"{one.factor * value:.4g} {one.compared}"))
        else:
            lines.append((name, _text(value)))
    return lines


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return " ".join(_text(each) for each in value)
    if isinstance(value, float):
        return f"{value:.10g}"
    return "-" if value is None else str(value)
