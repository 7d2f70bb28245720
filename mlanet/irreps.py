"""The door to e3nn, opened only as far as a model needs: `Irreps`, spherical harmonics and Wigner's 3j symbols.

`import e3nn.o3` brings torch's compiler and sympy along, which take longer to load than a small cell to answer: one
helper is decorated with `torch.compiler.disable`, and `o3` gathers all its modules, those that write their polynomials
by sympy too. Here the three modules that are used are loaded by themselves, and the rest when something else of `o3`
is asked for. To everybody else in the process it is e3nn as ever.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from typing import Any

import torch

from mlanet.lazily import deferred

_WANTED = {"_irreps": ("Irrep", "Irreps"), "_spherical_harmonics": ("spherical_harmonics",), "_wigner": ("wigner_3j",)}


def _out_of_the_compiler(function: Callable[..., Any]) -> Callable[..., Any]:
    """`torch.compiler.disable` that loads no compiler: where one is loaded by the time of a call, it is asked then."""

    @functools.wraps(function)
    def called(*arguments: Any, **named: Any) -> Any:
        if "torch._dynamo" in sys.modules:
            return torch.compiler.disable(function)(*arguments, **named)
        return function(*arguments, **named)

    called._torchdynamo_disable = True  # type: ignore[attr-defined]  # the compiler's own mark: never look inside
    return called


def _opened() -> Any:
    """e3nn's `o3`; as it is, where somebody has loaded it already, or where its modules are not those known here."""
    if "e3nn.o3" in sys.modules:
        return sys.modules["e3nn.o3"]
    package, before = deferred("e3nn.o3"), torch.compiler.disable
    torch.compiler.disable = _out_of_the_compiler  # type: ignore[assignment]
    try:
        for place, names in _WANTED.items():
            module = importlib.import_module(f"e3nn.o3.{place}")
            vars(package).update({name: getattr(module, name) for name in names})
    except (ImportError, AttributeError):
        return package
    finally:
        torch.compiler.disable = before
    return package


o3 = _opened()
