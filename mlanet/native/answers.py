"""Answers of a potential from the native engine, in its own words: graphs in, predictions out."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import torch
from torch import Tensor

from mlanet.graph import AtomicGraph, Prediction
from mlanet.native.engine import Answer, Engine
from mlanet.native.export import native_bytes
from mlanet.ops.segment import segment_sum
from mlanet.potential import Potential, stress_from_virial


class NativeAnswers:
    """What `Potential` answers in evaluation mode, computed by the native engine with the weights as they are now.

    Args:
        potential: on the CPU; not changed, and not kept.
    Raises:
        ConfigError: a model that the engine does not know.
        KernelError: the engine cannot be compiled here.
    """

    def __init__(self, potential: Potential) -> None:
        self.engine = Engine(native_bytes(potential))
        self.species_index = potential.species_index.numpy().copy()

    def forget(self) -> None:
        """Let go of the memory that a call leaves for the next one."""
        self.engine = copy.copy(self.engine)

    def __call__(self, graph: AtomicGraph, features: bool = False) -> Prediction:
        """Energies, forces and stress of a batch.

        features: whether what the last linear layer sees of each atom is among them
        """
        found = self._found(graph)
        atomic = torch.from_numpy(found.atomic_energies)
        virial = self._by_structure(torch.from_numpy(found.atomic_virials), graph)
        stress = stress_from_virial(0.5 * (virial + virial.transpose(1, 2)), graph)
        return Prediction(
            energy=self._by_structure(atomic, graph),
            forces=torch.from_numpy(found.forces).to(graph.dtype),
            stress=stress.to(graph.dtype),
            atomic_energies=atomic,
            features=torch.from_numpy(found.features).to(graph.dtype) if features else None,
        )

    def atomic_virials(self, graph: AtomicGraph) -> Tensor:
        """(N, 3, 3) eV, Σ_j r_ij ⊗ ∂E/∂r_ij of the pairs of each atom."""
        return torch.from_numpy(self._found(graph).atomic_virials)

    def _found(self, graph: AtomicGraph) -> Answer:
        n = graph.n_atoms
        start = np.searchsorted(graph.center.numpy(), np.arange(n + 1))
        species = self.species_index[graph.numbers.numpy()]
        vectors = dataclasses.replace(graph, dtype=torch.float64).edge_vectors().detach().numpy()
        self.engine.threads = torch.get_num_threads()
        return self.engine.compute(species, start, graph.neighbor.numpy(), vectors)

    @staticmethod
    def _by_structure(values: Tensor, graph: AtomicGraph) -> Tensor:
        return segment_sum(values, graph.structure, graph.n_structures)
