"""Answers of a potential from the native engine, in its own words: graphs in, predictions out."""

from __future__ import annotations

import copy

import torch

from mlanet.arrays import Floats
from mlanet.graph import AtomicGraph, Prediction
from mlanet.native.engine import Engine
from mlanet.native.export import native_bytes
from mlanet.native.potential import answered, virials_of
from mlanet.potential import Potential


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
        self.engine.threads = torch.get_num_threads()
        return Prediction.of(answered(self.engine, self.species_index, graph.arrays(), features))

    def atomic_virials(self, graph: AtomicGraph) -> Floats:
        """(N, 3, 3) eV, Σ_j r_ij ⊗ ∂E/∂r_ij of the pairs of each atom."""
        self.engine.threads = torch.get_num_threads()
        return virials_of(self.engine, self.species_index, graph.arrays())
