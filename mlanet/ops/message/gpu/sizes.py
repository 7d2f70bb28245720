"""What the kernels are compiled for, and what they can be compiled for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from mlanet.ops.gpu.start import padded
from mlanet.ops.message.reference import MessageShape, MessageWeights

WIDEST = {"channels": 256, "key width": 256, "hidden width": 128, "radial functions": 64}
"""Tiles of more than this do not fit the registers; channels and keys of all heads together."""

FEW = 8
"""Up to so many radial functions, products with them are sums of B terms; matrix products would pad B to 16."""


SLICE = 16
"""Inner size of the matrix products with z, the least that they can have."""


def common_gate(gate_channels: int, heads: int, width: int) -> int:
    """Channels that share a gate in the kernels: a divisor of `gate_channels`, the largest that is used.

    Groups stay within a head, and a degree has 16 of them where it can, so that matrix products need no padding.
    Where this is less than `gate_channels` weights of gates are repeated.

    >>> common_gate(4, 4, 16), common_gate(16, 4, 16), common_gate(3, 3, 2)
    (4, 4, 1)
    """
    shared = math.gcd(gate_channels, width)
    divisors = [index for index in range(shared, 0, -1) if shared % index == 0]
    return next((divisor for divisor in divisors if padded(heads) * padded(width // divisor) >= 16), 1)


@dataclass(frozen=True)
class Sizes:
    """Constants of one compiled kernel.

    - channels C · heads H · key_dim K · radial B · hidden R of z · mlp: hidden width of φ and ψ, 0 without a layer
    - gate_channels G: neighbouring channels that share a gate, all of one head
    - chemical_scale: n̄^{-1/2} of `combine: sum`, or 0 · tile: edges at a time · precision: of matrix products

    Tiles are sizes padded to powers of two. Columns of channels are (head, group, channel of a group), each padded.
    """

    l_max: int
    channels: int
    heads: int
    key_dim: int
    radial: int
    hidden: int
    mlp: int
    gate_channels: int
    chemical_scale: float
    tile: int
    precision: str

    @property
    def rows(self) -> int:
        """M."""
        return (self.l_max + 1) ** 2

    @property
    def terms(self) -> int:
        """2L+2: what a logit is a sum of."""
        return 2 * self.l_max + 2

    @property
    def width(self) -> int:
        """Channels of a head."""
        return self.channels // self.heads

    @property
    def groups(self) -> int:
        """Gates of a head, in one degree."""
        return self.width // self.gate_channels

    @property
    def few(self) -> bool:
        """Whether products with RBF are sums."""
        return self.radial <= FEW

    @property
    def radial_tile(self) -> int:
        """B."""
        return padded(self.radial, 8 if self.few else 16)

    @property
    def slices(self) -> int:
        """z is computed in slices of `SLICE` columns: as factors of a product they fill few registers."""
        return -(-self.hidden // SLICE)

    @property
    def slice_tile(self) -> int:
        """Columns of a slice of z."""
        return SLICE

    @property
    def mlp_tile(self) -> int:
        """Inputs of the last layer of φ and ψ."""
        return padded(self.mlp, 16) if self.mlp else self.radial_tile

    @property
    def head_tile(self) -> int:
        """H."""
        return padded(self.heads)

    @property
    def degree_tile(self) -> int:
        """L+1."""
        return padded(self.l_max + 1)

    @property
    def group_tile(self) -> int:
        """Gates of a head in one degree; of all heads at least 16."""
        return padded(self.groups, max(1, 16 // self.head_tile))

    @property
    def gates_tile(self) -> int:
        """Gates of all heads in one degree."""
        return self.head_tile * self.group_tile

    @property
    def gate_tile(self) -> int:
        """G."""
        return padded(self.gate_channels)

    @property
    def width_tile(self) -> int:
        """Channels of a head."""
        return self.group_tile * self.gate_tile

    @property
    def channel_tile(self) -> int:
        """C."""
        return self.head_tile * self.width_tile

    @property
    def key_tile(self) -> int:
        """K."""
        return padded(self.key_dim)

    @property
    def keys_tile(self) -> int:
        """H K."""
        return self.head_tile * self.key_tile

    @property
    def term_tile(self) -> int:
        """Terms of a logit; of all heads at least 16."""
        return padded(self.terms, max(1, 16 // self.head_tile))

    @property
    def terms_tile(self) -> int:
        """Terms of the logits of all heads."""
        return self.head_tile * self.term_tile

    @property
    def weight_launches(self) -> list[tuple[int, int]]:
        """First degree, and that behind the last, of each launch for the last layer: as many sums as registers hold."""
        at_once = 1 if self.mlp else self.l_max + 1
        return [(first, first + at_once) for first in range(0, self.l_max + 1, at_once)]

    @classmethod
    def of(
        cls, shape: MessageShape, inputs: Sequence[Tensor], weights: MessageWeights, tile: int, precision: str
    ) -> Sizes:
        """Read from the tensors of one call."""
        radial, hidden = weights.chemical.shape
        mlp = weights.mlp[0].shape[1] if len(weights.mlp) == 2 else 0
        channels = inputs[0].shape[2]
        gate = common_gate(shape.gate_channels, shape.heads, channels // shape.heads)
        sizes = (shape.l_max, channels, shape.heads, shape.key_dim, radial, hidden, mlp, gate)
        return cls(*sizes, float(shape.chemical_scale), tile, precision)


def obstacle(shape: MessageShape, channels: int, weights: MessageWeights) -> str:
    """Why these sizes have no kernel, in words; empty where they have."""
    if shape.full:
        return "there are kernels for message: light only"
    if not shape.heads:
        return "there are kernels for attention: tp_dot only"
    if shape.envelope_once:
        return "there are kernels for attention_envelope: twice only"
    if len(weights.mlp) > 2:
        return f"the radial network has {len(weights.mlp) - 1} hidden layers, and the kernels know none or one"
    if shape.l_max > 3:
        return f"l_max is {shape.l_max}, and the kernels go up to 3"
    widths = {
        "channels": channels,
        "key width": shape.heads * shape.key_dim,
        "hidden width": max(layer.shape[1] for layer in (weights.chemical, *weights.mlp[:-1])),
        "radial functions": weights.chemical.shape[0],
    }
    over = [f"{name}: {widths[name]}, at most {most}" for name, most in WIDEST.items() if widths[name] > most]
    return "; ".join(over)
