"""What the kernels are compiled for, and what they can be compiled for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from mlanet.ops.block import BlockShape, BlockWeights

WIDEST = {"channels of a head": 64, "key width of a head": 64, "hidden width": 128, "radial functions": 64}
"""Tiles of more than this do not fit the registers."""


def padded(size: int, least: int = 1) -> int:
    """The next power of two, at least `least`; matrix products want 16.

    >>> padded(10, 16), padded(48, 16)
    (16, 64)
    """
    return max(least, 1 << (size - 1).bit_length())


@dataclass(frozen=True)
class Sizes:
    """Constants of one compiled kernel.

    - channels C · heads H · key_dim K · radial B · hidden R of z · mlp: hidden width of φ and ψ, 0 without a layer
    - chemical_scale: n̄^{-1/2} of `combine: sum`, or 0 · tile: edges at a time · precision: of matrix products
    """

    l_max: int
    channels: int
    heads: int
    key_dim: int
    radial: int
    hidden: int
    mlp: int
    chemical_scale: float
    tile: int
    precision: str

    @property
    def rows(self) -> int:
        """M."""
        return (self.l_max + 1) ** 2

    @property
    def width(self) -> int:
        """Channels of a head."""
        return self.channels // self.heads

    @property
    def radial_tile(self) -> int:
        """B, padded for matrix products; so the others."""
        return padded(self.radial, 16)

    @property
    def hidden_tile(self) -> int:
        """R, padded."""
        return padded(self.hidden, 16)

    @property
    def mlp_tile(self) -> int:
        """Inputs of the last layer of φ and ψ, padded."""
        return padded(self.mlp or self.radial, 16)

    @property
    def width_tile(self) -> int:
        """Channels of a head, padded."""
        return padded(self.width, 16)

    @property
    def key_tile(self) -> int:
        """K, padded."""
        return padded(self.key_dim)

    @classmethod
    def of(cls, shape: BlockShape, inputs: Sequence[Tensor], weights: BlockWeights, tile: int, precision: str) -> Sizes:
        """Read from the tensors of one call."""
        radial, hidden = weights.chemical.shape
        mlp = weights.mlp[0].shape[1] if len(weights.mlp) == 2 else 0
        sizes = (shape.l_max, inputs[0].shape[2], shape.heads, shape.key_dim, radial, hidden, mlp)
        return cls(*sizes, float(shape.chemical_scale), tile, precision)


def obstacle(shape: BlockShape, channels: int, weights: BlockWeights) -> str:
    """Why these sizes have no kernel, in words; empty where they have."""
    if shape.full:
        return "there are kernels for message: light only"
    if len(weights.mlp) > 2:
        return f"the radial network has {len(weights.mlp) - 1} hidden layers, and the kernels know none or one"
    if shape.l_max > 3:
        return f"l_max is {shape.l_max}, and the kernels go up to 3"
    found = {
        "channels of a head": channels // shape.heads,
        "key width of a head": shape.key_dim,
        "hidden width": max(weights.chemical.shape[1], *(one.shape[0] for one in weights.mlp)),
        "radial functions": weights.chemical.shape[0],
    }
    over = [f"{name}: {found[name]}, at most {most}" for name, most in WIDEST.items() if found[name] > most]
    return "; ".join(over)
