"""What the kernels do by count: operations and bytes of one edge in each pass, to set beside the least.

The least of a forward pass is that of `benchmarks/floors.py`. Both count two operations for a multiplication with
addition and leave out exponentials; here padding counts as work, and so does what a pass computes again.
"""

from __future__ import annotations

from typing import NamedTuple

from mlanet.ops.message.gpu.sizes import Sizes


class Work(NamedTuple):
    """Of one edge.

    - flops · gathered: bytes of the atom at the other end · own: bytes of the edge itself, read and written
    """

    flops: int
    gathered: int
    own: int


def work(s: Sizes, itemsize: int = 4) -> dict[str, Work]:
    """Of each kernel, values without slopes and no gradients of weights; with slopes about three times as much.

    `message` is `attend` for a message alone, `attention` the same for what gradients need.

    >>> sizes = Sizes(2, 64, 4, 8, 8, 64, 0, 4, 0.0, 16, "ieee")
    >>> for name, one in work(sizes).items():
    ...     print(name, *one)
    message 24064 3712 80
    attention 6272 1408 96
    edge_gradient 33664 2560 184
    logit_gradient 12992 1408 264
    sent_gradient 26496 2580 112
    key_gradient 10944 1408 108
    """
    degrees, rows, heads = s.l_max + 1, s.rows, s.heads
    hidden = s.slices * s.slice_tile
    z = radial_flops(s, hidden)
    gates = 2 * s.degree_tile * hidden * s.gates_tile
    to_gates = 2 * degrees * hidden * s.gates_tile
    terms = 2 * hidden * s.terms_tile
    products = 2 * (2 * rows - 1) * s.keys_tile + 2 * s.terms_tile
    filters = 2 * degrees * (2 * s.mlp_tile * s.channel_tile if s.mlp else radial_flops(s, s.channel_tile))
    first = radial_flops(s, s.mlp_tile) if s.mlp else 0
    to_first = 2 * s.radial_tile * s.mlp_tile if s.mlp else 0
    to_filters = 4 * degrees * s.mlp_tile * s.channel_tile
    to_radial = 2 * s.radial_tile * hidden
    weighed = 3 * degrees * s.channel_tile
    paths = z + gates + first + filters
    through_paths = paths + to_gates + rows * 4 * s.channel_tile + 8 * degrees * s.channel_tile
    through_logits = z + 2 * terms + products
    flops = {
        "message": paths + weighed + 5 * rows * s.channel_tile + terms + products,
        "attention": z + terms + products,
        "edge_gradient": through_paths + to_filters + to_first + to_radial + 2 * rows * s.channel_tile,
        "logit_gradient": through_logits + to_radial + (6 * rows - 4) * s.keys_tile,
        "sent_gradient": through_paths + 2 * rows * s.channel_tile,
        "key_gradient": through_logits + 2 * rows * s.keys_tile,
    }
    sent, key, near = rows * s.channels, rows * heads * s.key_dim, s.hidden
    gathered = {
        "message": sent + key + near,
        "attention": key + near,
        "edge_gradient": sent + near,
        "logit_gradient": key + near,
        "sent_gradient": sent + near + heads + 1,
        "key_gradient": key + near,
    }
    geometry = 1 + s.radial + rows
    own = {
        "message": geometry,
        "attention": geometry + heads,
        "edge_gradient": 2 * geometry + 2 * heads,
        "logit_gradient": 3 * geometry - 2 + 3 * heads,
        "sent_gradient": geometry + heads,
        "key_gradient": geometry - 1 + heads,
    }
    indices = {"sent_gradient": 24, "key_gradient": 24}
    return {
        name: Work(flops[name], itemsize * gathered[name], itemsize * own[name] + indices.get(name, 8))
        for name in flops
    }


def radial_flops(s: Sizes, columns: int) -> int:
    """Of a product of RBF with a weight of so many columns."""
    return 2 * (s.radial if s.few else s.radial_tile) * columns
