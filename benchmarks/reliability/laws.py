"""Laws on every preset that promises them, in float64 and float32: the largest deviation of all."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from systems import SYSTEMS
from test_laws import EXTRA, EXTRA_LEIGNN, drawn, small

from mlanet.config import preset_names
from mlanet.laws import LAWS, promised, run_laws
from mlanet.potential import Potential
from reliability.check import Outcome, within

DOUBLE, SINGLE = "float64", "float32"


@functools.cache
def potentials(dtype: str) -> tuple[Potential, ...]:
    """Every preset with few channels and random weights."""
    kind = torch.float64 if dtype == DOUBLE else torch.float32
    return tuple(drawn(small(name)).to(kind).eval() for name in preset_names())


@functools.cache
def largest(law: str, dtype: str) -> float:
    """The largest deviation from a law over presets that promise it and structures of every periodicity."""
    chosen = [one for one in LAWS if one.name == law]
    assert chosen, f"no law is called '{law}'"
    worst = 0.0
    for potential in potentials(dtype):
        if law in promised(potential):
            for result in run_laws(potential, SYSTEMS, chosen):
                worst = max(worst, math.inf if math.isnan(result.deviation) else result.deviation)
    return worst


def law(*names: str, double: float, single: float | None = None) -> Callable[[], Outcome]:
    """The largest deviation from laws beside what is promised in each precision."""

    def run() -> Outcome:
        limits = {DOUBLE: double} | ({} if single is None else {SINGLE: single})
        return within(limits, {dtype: max(largest(name, dtype) for name in names) for dtype in limits})

    return run


def forces_of_each_part() -> Outcome:
    """F = −∂E/∂R with one part of the network changed at a time: attention, messages, pooling, charges, dispersion."""
    forces = [one for one in LAWS if one.name == "forces"]
    worst = 0.0
    for name in (*EXTRA, *EXTRA_LEIGNN):
        potential = drawn(small(name))
        if "forces" in promised(potential):
            worst = max([worst, *(one.deviation for one in run_laws(potential, SYSTEMS, forces))])
    return within({"": 1e-6}, {"": worst})
