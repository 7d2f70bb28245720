"""Packages of others that are loaded when something of them is used, not when somebody names them.

What a library imports at its top and never uses can take longer to load than a small cell to answer.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import threading
import types
from collections.abc import Iterator
from typing import Any


class _Deferred(types.ModuleType):
    """A package whose `__init__` runs when something is asked for that is not there yet.

    `importlib.util.LazyLoader` does the same for modules; with it no submodule could be imported by itself.
    """

    def __getattr__(self, name: str) -> Any:
        with vars(self)["_deferred_lock"]:
            if type(self) is _Deferred:
                if importlib.util.find_spec(f"{self.__name__}.{name}") is not None:
                    return importlib.import_module(f"{self.__name__}.{name}")  # by itself
                self.__class__ = types.ModuleType  # type: ignore[assignment]
                assert self.__spec__ is not None and self.__spec__.loader is not None
                self.__spec__.loader.exec_module(self)
        return getattr(self, name)

    def __dir__(self) -> list[str]:
        getattr(self, "__all__", None)
        return sorted(vars(self))


def deferred(name: str) -> types.ModuleType:
    """The package of this name, in `sys.modules` as ever; its own code runs when something else is asked of it.

    Submodules can be imported and attributes set before. One that is loaded already is returned as it is.

    Raises:
        ModuleNotFoundError: there is no such package.
    """
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.find_spec(name)
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError(f"no package named '{name}'", name=name)
    package = importlib.util.module_from_spec(spec)
    vars(package)["_deferred_lock"] = threading.RLock()
    package.__class__ = _Deferred
    sys.modules[name] = package
    parent, _, own = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], own, package)
    return package


@contextlib.contextmanager
def absent(name: str) -> Iterator[None]:
    """As if a package were not installed, for a library that looks for it at its top and gets on without it.

    One that is loaded already is there as ever.
    """
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # Python's own mark of what cannot be imported
    try:
        yield
    finally:
        del sys.modules[name]


def spare_scipy() -> None:
    """Let ASE's readers and integrators be imported without half a second of scipy, of which they use nothing.

    Readers name a table of k-points in `ase.dft`, which integrates densities of states; integrators a base class in
    `ase.optimize`, which has an optimiser by Gaussian processes; `ase.spacegroup` names `scipy.spatial`.
    """
    for name in ("ase.dft", "ase.optimize", "scipy.spatial"):
        deferred(name)
