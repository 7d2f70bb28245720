"""The door to e3nn, opened only as far as a model needs: `Irreps`, spherical harmonics and Wigner's 3j symbols.

`import e3nn.o3` brings torch's compiler and sympy along, which take longer to load than a small cell to answer: one
helper is decorated with `torch.compiler.disable`, and `o3` gathers all its modules, those that write their polynomials
by sympy too. Here the three modules that are used are loaded by themselves, and `o3` is told to load the rest when
something else of it is asked for. To everybody else in the process it is e3nn as ever.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
import threading
import types
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from typing import Any

import torch

_NAME = "e3nn.o3"
_WANTED = {"_irreps": ("Irrep", "Irreps"), "_spherical_harmonics": ("spherical_harmonics",), "_wigner": ("wigner_3j",)}
_lock = threading.RLock()


def _out_of_the_compiler(function: Callable[..., Any]) -> Callable[..., Any]:
    """`torch.compiler.disable` that loads no compiler: where one is loaded by the time of a call, it is asked then."""

    @functools.wraps(function)
    def called(*arguments: Any, **named: Any) -> Any:
        if "torch._dynamo" in sys.modules:
            return torch.compiler.disable(function)(*arguments, **named)
        return function(*arguments, **named)

    called._torchdynamo_disable = True  # type: ignore[attr-defined]  # the compiler's own mark: never look inside
    return called


class _Deferred(types.ModuleType):
    """A package whose `__init__` runs when something is asked for that is not there yet."""

    def __getattr__(self, name: str) -> Any:
        # Names with an underscore are its submodules, which the import system asks for before it loads them.
        if name.startswith("_"):
            raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")
        with _lock:
            if type(self) is _Deferred:
                self.__class__ = types.ModuleType
                assert self.__spec__ is not None and self.__spec__.loader is not None
                self.__spec__.loader.exec_module(self)
        return getattr(self, name)


def _opened(spec: ModuleSpec) -> types.ModuleType:
    """e3nn's `o3` with what is wanted in it, and the rest deferred."""
    package = importlib.util.module_from_spec(spec)
    package.__class__ = _Deferred
    before = torch.compiler.disable
    sys.modules[_NAME] = package
    torch.compiler.disable = _out_of_the_compiler  # type: ignore[assignment]
    try:
        for place, names in _WANTED.items():
            module = importlib.import_module(f"{_NAME}.{place}")
            for name in names:
                setattr(package, name, getattr(module, name))
    except Exception:
        del sys.modules[_NAME]
        raise
    finally:
        torch.compiler.disable = before
    sys.modules["e3nn"].o3 = package  # type: ignore[attr-defined]
    return package


def _door() -> Any:
    """e3nn's `o3`, as it is where somebody has loaded it already or its modules are not those known here."""
    spec = None if _NAME in sys.modules else importlib.util.find_spec(_NAME)
    if spec is not None:
        try:
            return _opened(spec)
        except (ImportError, AttributeError):
            pass
    return importlib.import_module(_NAME)


o3 = _door()
