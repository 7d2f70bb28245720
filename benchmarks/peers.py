"""Interatomic potentials of other packages behind one small interface, to be timed beside ours.

    peer = PEERS["nequip"].build({"l_max": 1}, Request(species=(3, 8, 27), neighbours=78.0, device="cpu"))
    inputs = peer.prepare([atoms])
    energy, forces, stress = peer.evaluate(inputs, False)

Models are untrained: their times and laws are those of trained ones, their energies mean nothing. All get the same list
of pairs, made as for our own models; what follows (harmonics, radial functions, messages, derivatives) is each
package's own.
Energies are in eV, forces −∂E/∂R in eV/Å, stress (1/V) ∂E/∂ε in eV/Å³ with V of the cell as given, tension positive.

Unless a builder says otherwise its options are l_max=2, channels=64, layers=2 and cutoff=5.0 Å, so that sizes compare;
`l_max` is the highest degree of both features and harmonics. The builders are in `peers_e3nn.py` and
`peers_without_e3nn.py` and import their packages when called, so this table can be read without any of them;
`environments.py` makes the environments that they live in.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ase import Atoms
    from torch import Tensor

    Results = tuple[Tensor, Tensor, Tensor]

SIZES = {"l_max": 2, "channels": 64, "layers": 2, "cutoff": 5.0}
"""Options that every builder understands, except l_max where the model has only one."""


@dataclass(frozen=True)
class Request:
    """What a model is built for: atomic numbers, mean neighbours of an atom, device and precision."""

    species: tuple[int, ...]
    neighbours: float
    device: str = "cpu"
    dtype: str = "float32"


@dataclass(frozen=True)
class Peer:
    """A model of another package, ready to be timed.

    - module: its parameters are counted, and optimised in a training step
    - cutoff: Å · request: what it was built for
    - inputs: pairs -> what the package wants
    - edges: directed pairs in the inputs
    - evaluate: inputs, training -> energy (S,), forces (N, 3), stress (S, 3, 3); inputs stay as they were, and with
      training the results keep their history, for a loss on all three
    """

    module: Any
    cutoff: float
    request: Request
    inputs: Callable[[Pairs], Any]
    edges: Callable[[Any], int]
    evaluate: Callable[[Any, bool], Results]

    def prepare(self, structures: Sequence[Atoms]) -> Any:
        """Inputs of structures on the device, list of pairs included."""
        return self.inputs(pairs(structures, self.cutoff, self.request))


@dataclass(frozen=True)
class Entry:
    """Where a peer lives and how it is built.

    - environment: name of its virtual environment, `.peers/<environment>`
    - requires: names it imports
    - build: options, request -> peer; ValueError for an option it has not, RuntimeError for a missing accelerator
    """

    environment: str
    requires: tuple[str, ...]
    build: Callable[[dict[str, Any], Request], Peer]


@dataclass(frozen=True)
class Pairs:
    """S structures with N atoms and E directed pairs: r_ij = R_j + shift · cell − R_i, i the centre, sorted by i.

    - positions (N, 3) Å · cell (S, 3, 3) Å · pbc (S, 3) · numbers, structure (N,) · atoms (S,) · first (S + 1,)
    - center, neighbor (E,) · shift (E, 3), of the floating type
    """

    positions: Tensor
    cell: Tensor
    pbc: Tensor
    numbers: Tensor
    structure: Tensor
    atoms: Tensor
    first: Tensor
    center: Tensor
    neighbor: Tensor
    shift: Tensor

    def volumes(self) -> Tensor:
        """(S,) Å³."""
        return self.cell.det().abs()

    def offsets(self) -> Tensor:
        """Shift · cell, (E, 3) Å."""
        import torch

        return torch.einsum("ea,eab->eb", self.shift, self.cell[self.structure[self.center]])

    def species(self, species: tuple[int, ...]) -> Tensor:
        """Place of every atom's element in the list, (N,)."""
        import torch

        known = torch.as_tensor(species, device=self.numbers.device)
        same = self.numbers[:, None] == known
        if not bool(same.any(1).all()):
            raise ValueError(f"the model was built for the elements {species} only")
        return same.int().argmax(1)


def pairs(structures: Sequence[Atoms], cutoff: float, request: Request) -> Pairs:
    """Structures and their neighbours within the cutoff, by the search that our own models use."""
    import numpy as np
    import torch

    from mlanet.data.neighbors import neighbor_list

    lists = [neighbor_list(one.positions, one.cell.array, one.pbc, cutoff) for one in structures]
    atoms = np.array([len(one) for one in structures])
    first = np.concatenate([[0], np.cumsum(atoms)])

    def whole(values: Any) -> Tensor:
        return torch.as_tensor(np.asarray(values), dtype=torch.long, device=request.device)

    def real(values: Any) -> Tensor:
        return torch.as_tensor(np.asarray(values), dtype=getattr(torch, request.dtype), device=request.device)

    return Pairs(
        positions=real(np.concatenate([one.positions for one in structures])),
        cell=real([one.cell.array for one in structures]),
        pbc=torch.as_tensor(np.array([one.pbc for one in structures]), device=request.device),
        numbers=whole(np.concatenate([one.numbers for one in structures])),
        structure=whole(np.repeat(np.arange(len(structures)), atoms)),
        atoms=whole(atoms),
        first=whole(first),
        center=whole(np.concatenate([one.center + start for one, start in zip(lists, first[:-1], strict=True)])),
        neighbor=whole(np.concatenate([one.neighbor + start for one, start in zip(lists, first[:-1], strict=True)])),
        shift=real(np.concatenate([one.shift for one in lists])),
    )


def options(given: dict[str, Any], **defaults: Any) -> SimpleNamespace:
    """The defaults with what was given; an unknown name, or a value of another type, is an error."""
    for name, value in given.items():
        if name not in defaults:
            raise ValueError(f"no option '{name}'; there are {', '.join(sorted(defaults))}")
        kind = type(defaults[name])
        if not (type(value) is kind or (kind is float and type(value) is int)):
            raise ValueError(f"option {name}={value!r} should be of type {kind.__name__}")
    return SimpleNamespace(**(defaults | given))


def need(request: Request, name: str, module: str, install: str) -> None:
    """Refuse an accelerator that cannot run here, with what is missing."""
    import torch

    if not request.device.startswith("cuda") or not torch.cuda.is_available():
        raise RuntimeError(f"{name} needs an NVIDIA GPU (asked for: {request.device}) and {install}")
    if importlib.util.find_spec(module) is None:
        raise RuntimeError(f"{name} needs the package {module}: {install}")


@contextlib.contextmanager
def default_dtype(name: str) -> Iterator[None]:
    """Packages that build their layers in torch's default floating type get it, and nobody after them."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, name))
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def mode(module: Any, training: bool) -> None:
    """Switch a module to training or back, only if need be."""
    if module.training != training:
        module.train(training)


def frozen(module: Any) -> Any:
    """A copy of a module on the same memory for its weights, but without history of them: for compiled inference."""
    copied = copy.deepcopy(module)
    for one, own in zip(copied.parameters(), module.parameters(), strict=True):
        one.data = own.data
    return copied.requires_grad_(False)


def results(energy: Tensor, forces: Tensor, stress: Tensor, training: bool) -> Results:
    """The same in the shapes of the interface; outside training without history."""
    answers = energy.reshape(-1), forces, stress.reshape(-1, 3, 3)
    return answers if training else tuple(one.detach() for one in answers)  # type: ignore[return-value]


def _builder(module: str, name: str) -> Callable[[dict[str, Any], Request], Peer]:
    """A builder that is looked up when it is called."""

    def build(given: dict[str, Any], request: Request) -> Peer:
        return getattr(importlib.import_module(module), name)(given, request)

    return build


PEERS: dict[str, Entry] = {
    "mace": Entry("mace", ("mace",), _builder("peers_e3nn", "mace")),
    "nequip": Entry("nequip", ("nequip",), _builder("peers_e3nn", "nequip")),
    "allegro": Entry("nequip", ("allegro", "nequip"), _builder("peers_e3nn", "allegro")),
    "sevennet": Entry("nequip", ("sevenn",), _builder("peers_e3nn", "sevennet")),
    "painn": Entry("schnetpack", ("schnetpack",), _builder("peers_without_e3nn", "painn")),
    "tensornet": Entry("torchmd", ("torchmdnet",), _builder("peers_without_e3nn", "tensornet")),
    "esen": Entry("fairchem", ("fairchem.core",), _builder("peers_without_e3nn", "esen")),
}
