"""The C++ kernels for this machine, compiled once for each l_max and precision."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import torch

from mlanet.ops.cpp import build
from mlanet.ops.cpp.build import compiler

__all__ = ["REALS", "compiler", "load"]

SOURCES = Path(__file__).parent
REALS = {torch.float32: "float", torch.float64: "double"}


@functools.cache
def load(l_max: int, dtype: torch.dtype) -> ctypes.CDLL:
    """The library for one l_max and precision (`build.load`).

    Raises:
        KernelError: no compiler, or one that fails.
    """
    macros = (f"-DREAL={REALS[dtype]}", f"-DDEGREE={l_max}")
    return build.load(SOURCES / "entry.cpp", macros, tuple(SOURCES.glob("*.[hc]pp")))
