"""Constants of an equation that no change of precision rounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import nn


class ExactConstants(nn.Module):
    """A module whose float64 buffers outside the model file stay float64 in every precision.

    Else a model would depend on what it was before: one that is read in float32 and then taken to float64 had rounded
    constants, and its copy, built anew, had not. `forward` takes them to the precision of what it is given.
    """

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        """`to`, `float`, `double`, `cuda`."""
        exact = {
            name: constant
            for name in self._non_persistent_buffers_set
            if (constant := self._buffers[name]) is not None and constant.dtype == torch.float64
        }
        super()._apply(fn, recurse)
        for name, constant in exact.items():
            moved = self._buffers[name]
            assert moved is not None
            self._buffers[name] = constant.to(moved.device)
        return self
