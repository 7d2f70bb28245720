"""Which implementation of the attention's pieces serves which layout of edges; all compute what `reference` says."""

from __future__ import annotations

from types import ModuleType

from mlanet.ops.message import reference, table
from mlanet.ops.segment import Neighborhoods


def by_layout(around: Neighborhoods) -> ModuleType:
    """`table` for neighbourhood tables, `reference` for sorted edge lists: same functions, same values."""
    return table if around.degree else reference
