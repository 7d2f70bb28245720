"""Packages of others that are loaded when something of them is used, not when somebody names them.

What a library imports at its top and never uses can take longer to load than a small cell to answer.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
import types
from collections.abc import Callable, Mapping
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


def lookup(module: str, homes: Mapping[str, str]) -> Callable[[str], object]:
    """A module's `__getattr__`, which imports what has a name when it is asked for.

    - homes: name -> module
    """

    def found(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module '{module}' has no attribute '{name}'")
        return getattr(importlib.import_module(homes[name]), name)

    return found


def ours_without(name: str, other: str) -> Any:
    """A package, loaded for ourselves as where another is not installed: it looks for that at its top, and gets on.

    Whoever else imports it gets one of their own that finds the other. Where either is loaded already there is nothing
    to be spared, and it is the one that everybody has.
    """
    if name in sys.modules or other in sys.modules:
        return importlib.import_module(name)
    sys.modules[other] = None  # type: ignore[assignment]  # Python's own mark of what cannot be imported
    try:
        return importlib.import_module(name)
    finally:
        del sys.modules[other]
        for loaded in [module for module in sys.modules if module == name or module.startswith(f"{name}.")]:
            del sys.modules[loaded]


def spare_scipy() -> None:
    """Let ASE's readers and integrators be imported without half a second of scipy, of which they use nothing.

    Readers name a table of k-points in `ase.dft`, which integrates densities of states; integrators a base class in
    `ase.optimize`, which has an optimiser by Gaussian processes; `ase.md` gathers all integrators; `ase.spacegroup`
    names `scipy.spatial`.
    """
    for name in ("ase.dft", "ase.md", "ase.optimize", "scipy.spatial"):
        deferred(name)


def spare_scipy_for_crystals() -> None:
    """Let ASE make crystals of CIFs without a quarter second of scipy, of which it needs distances of a few sites.

    Only ASE's own view of `scipy.spatial` changes, and only where nobody has loaded the real one yet.
    """
    xtal: Any = importlib.import_module("ase.spacegroup.xtal")
    if "scipy.spatial.distance" not in sys.modules and isinstance(getattr(xtal, "spatial", None), types.ModuleType):
        xtal.spatial = types.SimpleNamespace(distance=types.SimpleNamespace(cdist=_distances))


def _distances(one: Any, other: Any) -> Any:
    """Euclidean, (A, 3) and (B, 3) to (A, B), as `scipy.spatial.distance.cdist`."""
    import numpy as np

    return np.linalg.norm(np.asarray(one)[:, None] - np.asarray(other)[None], axis=2)


def spare_markdown() -> None:
    """Load what draws typer's help without a tenth of a second of Markdown and tracebacks, which our help has none of.

    Only typer's own view of them changes; whoever else asks for them gets the real ones.
    """
    unused = [name for name in ("rich.markdown", "rich.traceback") if name not in sys.modules]
    nothing: Any = types.SimpleNamespace(Markdown=None, Traceback=None)
    sys.modules.update(dict.fromkeys(unused, nothing))
    try:
        importlib.import_module("typer.rich_utils")
    except (ImportError, AttributeError, TypeError):
        pass  # another typer, which makes more use of them: it loads them itself when it needs them
    finally:
        for name in unused:
            del sys.modules[name]
