"""The options of every command that computes with a model, which reach it as one `Execution`."""

from __future__ import annotations

import enum
import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import typer

from mlanet.execution import Execution

PANEL = "Computing"


Kernel = enum.StrEnum("Kernel", "auto plain fused native")
"""How messages are computed."""


Digits = enum.StrEnum("Digits", "float32 tf32")
"""How matrix products are computed."""


Precision = enum.StrEnum("Precision", "float32 float64")
"""Floating-point type of a computation."""


def _flag(name: str, text: str) -> Any:
    return Annotated[bool, typer.Option(name, help=text, rich_help_panel=PANEL)]


def _option(kind: Any, text: str, **more: Any) -> Any:
    return Annotated[kind, typer.Option(help=text, rich_help_panel=PANEL, **more)]


OPTIONS: dict[str, Any] = {
    "max_memory": _option(
        float | None, "GiB that a batch may need, forecast; on a GPU most of what is free if not given.", min=0.001
    ),
    "skin": _option(float, "Å; neighbours are looked up anew after half of it."),
    "tabulated": _flag("--tabulated", "Tables for LEIGNN's radial filters."),
    "dtype": _option(Precision | None, "Precision; the model's own if not given."),
    "device": _option(str, "cpu, cuda or cuda:N."),
    "kernels": _option(
        Kernel, "native (whole steps in C++), fused (C++, compiled once) or plain (torch); auto takes the fastest."
    ),
    "capture": _flag("--capture", "On a GPU: record a step once and replay it, as a CUDA graph."),
    "compiled": _flag("--compile", "Compile the whole step, which takes a minute; for long runs."),
    "matmul": _option(Digits, "Matrix products in fewer digits: tf32 (NVIDIA GPUs); what it costs is said."),
}
"""By field of `Execution`, in the order of the help."""

ONCE = ("device", "kernels")
"""For whom the precision is fixed."""
BATCHES = ("max_memory", "dtype", "device", "kernels", "matmul")
STEPS = ("dtype", "device", "kernels", "capture", "compiled", "matmul")


def computing(*names: str, **defaults: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command these options of `OPTIONS`, with the defaults of `Execution` or others; it gets an `execution`."""

    def with_options(command: Callable[..., None]) -> Callable[..., None]:
        own = [
            parameter for parameter in inspect.signature(command).parameters.values() if parameter.name != "execution"
        ]
        hints = get_type_hints(command, include_extras=True)
        del hints["execution"]
        usual = Execution(**defaults)

        @functools.wraps(command)
        def run(**words: Any) -> None:
            chosen = {name: words.pop(name) for name in names}
            plain = {name: value.value if isinstance(value, enum.Enum) else value for name, value in chosen.items()}
            command(**words, execution=Execution(**{**defaults, **plain}))

        more = [
            inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=_as_choice(name, usual))
            for name in OPTIONS
            if name in names
        ]
        run.__annotations__ = hints | {parameter.name: OPTIONS[parameter.name] for parameter in more}
        own = [parameter.replace(annotation=hints[parameter.name]) for parameter in own]
        more = [parameter.replace(annotation=OPTIONS[parameter.name]) for parameter in more]
        run.__signature__ = inspect.Signature([*own, *more])  # type: ignore[attr-defined]
        del run.__wrapped__  # type: ignore[attr-defined]
        return run

    return with_options


def _as_choice(name: str, usual: Execution) -> Any:
    """A default, as the word of a choice where it is one."""
    value = getattr(usual, name)
    kinds = {"dtype": Precision, "kernels": Kernel, "matmul": Digits}
    return kinds[name](value) if name in kinds and value is not None else value
