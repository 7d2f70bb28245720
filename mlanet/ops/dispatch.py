"""Who computes what: the only place that asks for device, precision and the name of kernels.

Layers call the operations below and know nothing of it. What is chosen once for a model comes with its edges
(`pairs`): edges in rows are for kernels, C++ on CPUs and Triton on NVIDIA GPUs; without rows, plain torch computes, on
a CPU with a table of neighbours where that is cheaper than a list. An operation that has no kernel for its sizes is
computed in plain torch too. The `reference` of each operation says what it computes.
"""

from __future__ import annotations

import functools
import importlib.util
import math
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from mlanet.errors import ConfigError
from mlanet.ops.autograd import Operation, apply
from mlanet.ops.cpp import library
from mlanet.ops.cpp.calls import MAX_DEPTH
from mlanet.ops.edge_degree.cpu import NativeDirections
from mlanet.ops.edge_degree.gpu import GpuDirections
from mlanet.ops.edge_degree.gpu import obstacle as edge_degree_obstacle
from mlanet.ops.edge_degree.reference import DirectionInputs, directions
from mlanet.ops.filtered_sum import table as filtered_table
from mlanet.ops.filtered_sum.cpu import NativeFilteredSum
from mlanet.ops.filtered_sum.gpu import GpuFilteredSum
from mlanet.ops.filtered_sum.reference import FilterEdges, Senders
from mlanet.ops.filtered_sum.reference import filtered_sum as filtered_sum_of_lists
from mlanet.ops.message import reference
from mlanet.ops.message.cpu import NativeMessage
from mlanet.ops.message.gpu.operation import GpuMessage
from mlanet.ops.message.gpu.sizes import obstacle as gpu_message_obstacle
from mlanet.ops.message.reference import MessageInputs, MessageShape, MessageWeights, Pieces
from mlanet.ops.message.table import TABLES
from mlanet.ops.neighbor_pooling.cpu import NativePooling
from mlanet.ops.neighbor_pooling.gpu import GpuPooling
from mlanet.ops.neighbor_pooling.gpu import obstacle as pooling_obstacle
from mlanet.ops.neighbor_pooling.reference import pooled_neighbors
from mlanet.ops.node_product import reference as node_product_reference
from mlanet.ops.node_product.cpu import NativeProduct
from mlanet.ops.node_product.gpu import GpuProduct
from mlanet.ops.rows import Rows
from mlanet.ops.segment import Neighborhoods
from mlanet.ops.traced import is_tracing

Kernels = Literal["plain", "fused"]
"""How messages are computed: in plain torch, all edges at once; or by kernels written for the purpose."""

PLAIN: Kernels = "plain"
FUSED: Kernels = "fused"

OLDEST = (8, 0)
"""Capability from which the kernels in Triton are compiled and tested."""

MAX_PADDING = 1.6
"""A table may have this many times the rows of the list before the list is cheaper (measured on two CPU cores)."""

ROWS_PER_FUNCTION = 1.5
"""Neighbours per radial function from which filtered sums by center beat sums edge by edge, on a CPU."""


def kernels_called(name: str) -> Kernels:
    """The kernels of a name.

    Raises:
        ConfigError: there are none of that name.
    """
    if name not in get_args(Kernels):
        raise ConfigError(f"kernels: '{name}' is none of {', '.join(get_args(Kernels))}")
    return FUSED if name == FUSED else PLAIN


class Pairs(NamedTuple):
    """The pairs of atoms as the layers' arrays have them.

    - around: edges by center · neighbor (E,) · slot (E,): place of each in the list, its length for a filler, or None
    - rows: the same edges as kernels read them; None where plain torch computes
    """

    around: Neighborhoods
    neighbor: Tensor
    slot: Tensor | None
    rows: Rows | None

    def arrange(self, values: Tensor, filler: Tensor) -> Tensor:
        """List order (E, 3) -> the layers' order, with `filler` (3,) where a center has fewer neighbours than most."""
        if self.slot is None:
            return values
        return torch.cat([values, filler[None]]).index_select(0, self.slot)


def pairs(kernels: Kernels, center: Tensor, neighbor: Tensor, n_centers: int, sample: Tensor) -> Pairs:
    """The pairs for these kernels; `sample`: a tensor of the precision and on the device of the computation.

    A table is for plain torch on a CPU, when the centers have similar numbers of neighbours. On other devices, and in a
    program that is traced, it is always the list: its shape is known without a question.
    """
    around = Neighborhoods(center, n_centers)
    if kernels == FUSED and not obstacle(sample):
        return Pairs(around, neighbor, None, Rows.of(around, neighbor))
    if is_tracing() or center.device.type != "cpu" or not len(center):
        return Pairs(around, neighbor, None, None)
    counts = torch.bincount(center, minlength=n_centers)
    degree = int(counts.max())
    if not tabled(kernels, sample, n_centers, degree, len(center)):
        return Pairs(around, neighbor, None, None)
    column = torch.arange(degree)[None, :]
    first = (torch.cumsum(counts, 0) - counts)[:, None]
    slot = torch.where(column < counts[:, None], first + column, len(center)).flatten()
    of_table = Neighborhoods(torch.arange(n_centers).repeat_interleave(degree), n_centers, degree)
    filled = torch.cat([neighbor, neighbor.new_zeros(1)]).index_select(0, slot)
    return Pairs(of_table, filled, slot, None)


def tabled(kernels: Kernels, sample: Tensor, n_centers: int, degree: int, n_edges: int) -> bool:
    """Whether pairs become a table with room for `degree` neighbours of every center."""
    plain = kernels == PLAIN or bool(obstacle(sample))
    return plain and sample.device.type == "cpu" and 0 < degree * n_centers <= MAX_PADDING * n_edges


def by_triton(sample: Tensor) -> bool:
    """Whether the kernels for such tensors are those in Triton and not those in C++."""
    return sample.device.type == "cuda"


def obstacle(sample: Tensor) -> str:
    """Why there are no kernels of either kind for such tensors, in words; empty where there are."""
    kind = sample.device.type
    if sample.dtype not in library.REALS:
        return f"fused kernels are for float32 and float64, not {str(sample.dtype).removeprefix('torch.')}"
    if kind not in ("cpu", "cuda"):
        return f"there are fused kernels for CPUs and CUDA, not for {kind}"
    if torch.is_autocast_enabled(kind):
        return "fused kernels compute in the precision of the weights, not under autocast"
    return "" if kind == "cpu" else _cuda_obstacle(sample.device)


@functools.cache
def _cuda_obstacle(device: torch.device) -> str:
    """What a GPU lacks, asked once: the answer is wanted in every layer."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed (CUDA builds of PyTorch bring it)"
    if torch.cuda.get_device_capability(device) < OLDEST:
        return f"{torch.cuda.get_device_name(device)} is below capability {OLDEST[0]}.{OLDEST[1]}"
    return ""


def message_obstacle(shape: MessageShape, sent: Tensor, weights: MessageWeights) -> str:
    """Why there is no kernel for a message, in words; empty where there is one."""
    if reason := obstacle(sent):
        return reason
    if by_triton(sent):
        return gpu_message_obstacle(shape, sent.shape[-1], weights)
    depth = len(weights.mlp)
    return f"radial networks may have {MAX_DEPTH} layers, this has {depth}" if depth > MAX_DEPTH else ""


def message_pieces(around: Neighborhoods) -> Pieces:
    """The sums of the message that have a form of their own for tables of neighbours."""
    return TABLES if around.degree else reference.LISTS


def message(
    shape: MessageShape,
    around: Neighborhoods,
    neighbor: Tensor,
    rows: Rows | None,
    inputs: MessageInputs,
    weights: MessageWeights,
) -> Tensor:
    """m (N, M, C), see `message.reference`."""
    if rows is None or message_obstacle(shape, inputs.sent, weights):
        return reference.message(message_pieces(around), shape, around, neighbor, inputs, weights)
    gpu = by_triton(inputs.sent)
    operation: Operation = GpuMessage(shape, rows) if gpu else NativeMessage(shape, rows)
    return apply(operation, inputs, weights.flat())


def edge_degree(
    factor: float,
    around: Neighborhoods,
    neighbor: Tensor,
    rows: Rows | None,
    inputs: DirectionInputs,
    layers: tuple[Tensor, ...],
) -> Tensor:
    """h⁰ (N, (L+1)² − 1, C) of degrees 1 … L, see `edge_degree.reference`."""
    l_max, sender = math.isqrt(inputs.harmonics.shape[1]) - 1, inputs.sender
    operation: Operation
    if rows is not None and by_triton(sender) and not edge_degree_obstacle(l_max, sender.shape[1], layers):
        operation = GpuDirections(l_max, factor, rows)
    elif rows is not None and not by_triton(sender) and len(layers) <= MAX_DEPTH:
        operation = NativeDirections(l_max, factor, rows)
    else:
        return directions(factor, around, neighbor, inputs, layers)
    return apply(operation, inputs, layers)


def neighbor_pooling(
    l_max: int, around: Neighborhoods, neighbor: Tensor, rows: Rows | None, features: Tensor, envelope: Tensor
) -> Tensor:
    """Weighed sum and smooth maximum of the neighbours' features (N, 2, C), see `neighbor_pooling.reference`."""
    operation: Operation
    if rows is not None and by_triton(features) and not pooling_obstacle(features.shape[1]):
        operation = GpuPooling(rows)
    elif rows is not None and not by_triton(features):
        operation = NativePooling(rows, l_max)
    else:
        return pooled_neighbors(features, envelope, neighbor, around)
    return apply(operation, (features, envelope), ())


def node_product(features: Tensor, weight: Tensor, l_out: int, by_kernel: bool) -> Tensor:
    """y (N, (l_out+1)², C), see `node_product.reference`; by_kernel: as for the edges, which have rows then."""
    if not by_kernel:
        return node_product_reference.node_product(features, weight, l_out)
    operation: Operation = GpuProduct(l_out) if by_triton(features) else NativeProduct(l_out)
    return apply(operation, (features,), (weight,))


def filter_edges(layout: Pairs, basis: Tensor, direction: Tensor, rows: Tensor | None = None) -> FilterEdges:
    """What filtered sums of these pairs need. - basis (E, K) · direction (E, 3) · rows: of a table of filters"""
    directed, by_rows = None, layout.rows if rows is None else None
    if rows is None and layout.around.degree > ROWS_PER_FUNCTION * basis.shape[1]:
        directed = (direction[:, :, None] * basis[:, None, :]).flatten(1)
    return FilterEdges(layout.around, layout.neighbor, basis, direction, directed, rows, by_rows)


def filtered_sum(edges: FilterEdges, senders: Senders, weight: Tensor) -> tuple[Tensor, Tensor]:
    """m (N, F) and w (N, 3, F), see `filtered_sum.reference`.

    - weight W (2F or 3F, K): rows of λ_s, λ_a and, with vectors, λ_v; or a table (G, 2F or 3F) of their values
    """
    if edges.kernel_rows is None:
        by_center = edges.directed is not None
        return (filtered_table.filtered_sum if by_center else filtered_sum_of_lists)(edges, senders, weight)
    sent = senders.stacked()
    gpu = by_triton(sent)
    operation: Operation = GpuFilteredSum(edges.kernel_rows) if gpu else NativeFilteredSum(edges.kernel_rows)
    received = apply(operation, (sent, edges.basis, edges.direction), (weight,))
    return received[:, 0], received[:, 1:]
