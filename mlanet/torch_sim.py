"""A potential as a model of torch-sim, whose optimizers and integrators move many systems at once.

Needs the extra `torch-sim`; tried with its versions 0.3.0 (Python 3.11) and, where there is Python 3.12, 0.6.2.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from mlanet import DEFAULT_MODEL
from mlanet.ambient import usual_torch
from mlanet.data.atoms import require_apart, to_graph
from mlanet.errors import ConfigError, GeometryError, MLANetError
from mlanet.execution import Execution
from mlanet.forecast import CRYSTAL_SPREAD, Forecast
from mlanet.graph import AtomicGraph, Size, batch_graphs
from mlanet.inference import require_finite
from mlanet.memory import free_bytes
from mlanet.potential import Potential
from mlanet.verlet import SKIN, Neighbors

try:
    from torch_sim.models.interface import ModelInterface
except ImportError as error:
    raise ImportError("torch-sim is not installed; it is an extra: pip install 'mlanet[torch-sim]'") from error

SHARE_OF_FREE = 0.8
"""Of the memory that is free, so much may one batch take: the integrator keeps states besides."""


class TorchSimModel(ModelInterface):  # type: ignore[misc]  # torch-sim is optional
    """Energy (S,) eV, forces (N, 3) eV/Å and stress (S, 3, 3) eV/Å³ of the systems of a state, tension positive.

    Stress is NaN where no direction is periodic. A batch says of each system what it would be told alone, to rounding.
    The state is not changed, atoms need not be wrapped, and a system may be smaller than the cutoff. Neighbour lists
    are kept from one call to the next, and serve where they provably hold every pair within the cutoff.

    `pbc` of the state counts by direction where it says so (torch-sim 0.6). torch-sim 0.3 keeps one word for all three
    and makes of a sheet, without a word, a molecule: a state without periodicity whose systems have cells is therefore
    refused, unless `molecules` says that this is what they are.

    Args:
        model: a packaged model's name, a path of a model file, or a `Potential` (a snapshot of it is taken).
        device: where it computes; that of the states.
        dtype: of what it says, and of the model; None keeps the model's.
        kernels: as of `MLANetCalculator`.
        skin: Å, of the lists.
        molecules: see above.
    Raises:
        CheckpointError, ConfigError: as `MLANetCalculator`.

    >>> import torch_sim
    >>> from ase.build import bulk
    >>> final = torch_sim.optimize([bulk("Si", a=5.5)], TorchSimModel(), optimizer=torch_sim.frechet_cell_fire)
    """

    def __init__(
        self,
        model: Potential | str | os.PathLike[str] = DEFAULT_MODEL,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = torch.float64,
        kernels: str = "auto",
        skin: float = SKIN,
        molecules: bool = False,
    ) -> None:
        super().__init__()
        name = None if dtype is None else str(dtype).removeprefix("torch.")
        execution = Execution(name, str(device), kernels, skin=skin)
        self.potential = execution.resolve(model, trained=False)
        self._device, self._dtype = self.potential.device, self.potential.dtype
        self._compute_forces = self._compute_stress = True
        self._memory_scales_with = "n_atoms_x_density"
        self._skin, self._molecules = skin, molecules
        self._lists: list[Neighbors | None] = []

    @usual_torch()
    def forward(self, state: Any, **_: Any) -> dict[str, Tensor]:
        """What the model says of a `SimState`, or a mapping with its fields.

        Raises:
            UnsupportedElementError, GeometryError, NotFiniteError: name the system, counted from 0, and the atom.
        """
        fields = state if isinstance(state, dict) else vars(state)
        systems = self._systems(fields)
        wide = [self._wide(index, atoms) for index, atoms in enumerate(systems)]
        del self._lists[len(systems) :]
        graph = batch_graphs(wide)
        if (charge := fields.get("charge")) is not None:
            graph = dataclasses.replace(graph, charge=charge.detach().to("cpu", torch.float64).reshape(-1))
        graph = graph.to(self.device).within(self.potential.cutoff)
        named = "the state" if len(systems) > 1 else "system 0"
        require_apart(graph, named)
        prediction = self.potential(graph)
        require_finite(prediction, graph, named)
        return {
            "energy": prediction.energy.to(self.dtype),
            "forces": prediction.forces.to(self.dtype),
            "stress": prediction.stress.to(self.dtype),
        }

    def max_memory_scaler(self, state: Any, gib: float | None = None) -> float:
        """What torch-sim's autobatchers take as `max_memory_scaler`: how much of N · density one batch may hold.

        torch-sim looks for it by running ever larger batches until memory is exhausted, which it can do on a GPU only.
        Here it follows from the forecast (docs/decisions/0010): E = N ρ (4π/3) r_c³ pairs, and N atoms as many as the
        least dense of these systems has for them.

        Args:
            state: of the systems to come, or a fair sample.
            gib: memory of a batch; None: most of what is free.
        Raises:
            ConfigError: not even one such system fits, or one that has no volume.
        """
        fields = state if isinstance(state, dict) else vars(state)
        volume = np.abs(np.linalg.det(_array(fields["cell"])))
        atoms = np.bincount(_array(fields["system_idx"]).astype(int), minlength=len(volume))
        if not (volume > 0).all():
            raise ConfigError(
                "the density of a system without a cell is not defined; batch by memory_scales_with='n_atoms'"
            )
        density = 1000.0 * atoms / volume  # nm⁻³, as torch-sim counts
        reach = 4 / 3 * np.pi * self.potential.cutoff**3 / 1000.0
        degree = max(1, round(CRYSTAL_SPREAD * float(density.max()) * reach))
        limit = gib * 2**30 if gib is not None else SHARE_OF_FREE * free_bytes(self.device)
        forecast = Forecast(self.potential, training=False)

        def fits(scaler: float) -> bool:
            return forecast.fits(Size(round(scaler / density.min()), round(scaler * reach), degree), limit)

        least = float((atoms * density).max())
        if not fits(least):
            raise ConfigError(f"the largest of these systems needs more than {limit / 2**30:.3g} GiB")
        high = least
        while fits(2 * high):
            high *= 2
        low, high = high, 2 * high
        for _ in range(10):
            middle = (low + high) / 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        return low

    def _systems(self, fields: dict[str, Any]) -> list[Atoms]:
        """The systems of a state, whose cells have lattice vectors as columns."""
        cell, index = _array(fields["cell"]), fields.get("system_idx")
        cell = cell.reshape(-1, 3, 3)
        positions, numbers = _array(fields["positions"]), _array(fields["atomic_numbers"]).astype(int)
        where = np.zeros(len(positions), dtype=int) if index is None else _array(index).astype(int)
        if (np.diff(where) < 0).any():
            raise GeometryError("the atoms of a state must stand system by system (ascending system_idx)")
        given = fields["pbc"]
        whole = isinstance(given, bool)
        pbc = np.broadcast_to(_array(given) if isinstance(given, Tensor) else np.asarray(given), (len(cell), 3))
        if whole and not given and cell.any() and not self._molecules:
            raise GeometryError(
                "this state is periodic in no direction, yet its systems have cells: torch-sim 0.3 says so of sheets "
                "and wires too, which it cannot hold; give sheets as periodic in all directions, with empty space, or "
                "say molecules=True"
            )
        starts = np.searchsorted(where, np.arange(len(cell) + 1))
        parts = [slice(*starts[k : k + 2]) for k in range(len(cell))]
        return [
            Atoms(numbers[part], positions[part], cell=cell[k].T, pbc=pbc[k].astype(bool))
            for k, part in enumerate(parts)
        ]

    def _wide(self, index: int, atoms: Atoms) -> AtomicGraph:
        """The graph of one system, skin included."""
        if index == len(self._lists):
            self._lists.append(None)
        known = self._lists[index]
        if known is None or not known.serves(atoms):
            wide = to_graph(atoms, self.potential.cutoff + self._skin, where=f"system {index}")
            try:
                self.potential.require_supported(wide)
            except MLANetError as error:
                raise type(error)(f"system {index}: {error}") from None
            known = self._lists[index] = Neighbors(wide, atoms, self.potential.cutoff)
        return known.now(atoms)


def _array(value: Tensor) -> Any:
    """On the CPU; positions and cells, whatever their precision, in float64."""
    value = value.detach().cpu()
    return (value.double() if value.is_floating_point() else value).numpy()
