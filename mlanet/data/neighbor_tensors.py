"""Neighbour lists as tensors on the device where they are wanted; for large cells on a GPU, searched there by vesin.

A core needs some 12 µs per atom for a list at 5 Å, a tenth of a second for ten thousand atoms, in which a GPU waits.
The same vesin searches on NVIDIA GPUs too, compiling its kernels when first asked. Each device's first list is compared
with that of the CPU; where it fails or differs, a warning says so, and lists of this process come from the CPU.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch
import vesin
from numpy.typing import NDArray
from torch import Tensor

from mlanet.data.bounds import plan_search
from mlanet.data.neighbors import compact_basis, neighbor_list

FROM_ATOMS = 2_000
"""Smaller cells are searched on the CPU: their list takes some ms, and their images may fill the cutoff many times."""
ROUNDING = 1e-6
"""Å. Pairs this near to the cutoff may be in one list and not in the other; they weigh nothing."""

Pairs = tuple[Tensor, Tensor, Tensor]
"""center (E,), neighbor (E,), shift (E, 3), int64, sorted by these in turn, as `NeighborList`."""

_trusted: dict[torch.device, bool] = {}


def neighbor_tensors(
    positions: NDArray[np.float64],
    cell: NDArray[np.float64],
    pbc: NDArray[np.bool_],
    cutoff: float,
    device: torch.device,
) -> Pairs:
    """`neighbor_list` on a device; raises as it does."""
    if device.type == "cuda" and len(positions) >= FROM_ATOMS and _trusted.get(device, True):
        pairs = _checked(positions, cell, pbc, cutoff, device, search)
        if pairs is not None:
            return pairs
    listed = neighbor_list(positions, cell, pbc, cutoff)
    center, neighbor, shift = (torch.from_numpy(array).to(device) for array in listed)
    return center, neighbor, shift


def search(
    positions: NDArray[np.float64],
    cell: NDArray[np.float64],
    pbc: NDArray[np.bool_],
    cutoff: float,
    device: torch.device,
) -> Pairs:
    """vesin's list, made on the device and sorted there."""
    periodic = np.asarray(pbc, dtype=bool)
    box = np.where(periodic[:, None], cell, 0.0)
    basis = compact_basis(box, periodic)
    plan_search(positions, np.asarray(basis @ box, dtype=np.float64), periodic, cutoff)
    finder = vesin.NeighborList(cutoff=float(cutoff), full_list=True)
    here = [torch.tensor(array, device=device) for array in (positions, basis @ box, periodic)]
    pairs, shift = finder.compute(*here, "PS")
    center, neighbor = pairs.view(torch.int64).unbind(1)
    shift = (shift.double() @ torch.tensor(basis, dtype=torch.float64, device=device)).round().to(torch.int64)
    order = torch.arange(len(center), device=device)
    for key in (*shift.T.flip(0), neighbor, center):
        order = order[key[order].sort(stable=True).indices]
    return center[order], neighbor[order], shift[order]


def _checked(
    positions: NDArray[np.float64],
    cell: NDArray[np.float64],
    pbc: NDArray[np.bool_],
    cutoff: float,
    device: torch.device,
    finder: Callable[..., Pairs],
) -> Pairs | None:
    """The device's list, the first time compared with the CPU's; None where it cannot be used."""
    try:
        pairs = finder(positions, cell, pbc, cutoff, device)
    except Exception as error:  # whatever a driver or a compiler raises
        why = f"{type(error).__name__}: {error}".splitlines()[0]
    else:
        if device in _trusted or _same(pairs, positions, cell, pbc, cutoff):
            _trusted[device] = True
            return pairs
        why = "it has other pairs than the list of the CPU"
    _trusted[device] = False
    warnings.warn(f"no neighbour list on {device}: {why}; lists are made on the CPU", stacklevel=4)
    return None


def _same(
    theirs: Pairs, positions: NDArray[np.float64], cell: NDArray[np.float64], pbc: NDArray[np.bool_], cutoff: float
) -> bool:
    """Whether a list has the pairs of the CPU's, those at the very cutoff aside, and in its order."""
    there = np.concatenate([tensor.cpu().numpy().reshape(len(theirs[0]), -1) for tensor in theirs], axis=1)
    listed = neighbor_list(positions, cell, pbc, cutoff)
    here = np.concatenate([listed.center[:, None], listed.neighbor[:, None], listed.shift], axis=1)

    def inside(pairs: NDArray[np.int64]) -> NDArray[np.int64]:
        box = np.where(np.asarray(pbc, dtype=bool)[:, None], cell, 0.0)
        vectors = positions[pairs[:, 1]] + pairs[:, 2:] @ box - positions[pairs[:, 0]]
        return pairs[np.linalg.norm(vectors, axis=1) < cutoff - ROUNDING]

    return np.array_equal(inside(there), inside(here))
