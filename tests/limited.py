"""Potentials that know their limits: untrained, with the reach and the errors of a set of rattled crystals."""

from __future__ import annotations

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from mlanet.config import parse
from mlanet.data.dataset import sample_of
from mlanet.data.fit import fit_statistics
from mlanet.data.read import Frame
from mlanet.data.samples import Sample
from mlanet.limits import fit_domain
from mlanet.models import ModelConfig
from mlanet.potential import Potential

SMALL = {"model": "mlanet", "irreps": "8x0e+8x1o", "layers": 1, "hidden": 8, "heads": 2, "cutoff": 4.0}
SMALL_LEIGNN = {"model": "leignn", "channels": 8, "layers": 2, "cutoff": 4.0, "radial_functions": 8}


def crystal(symbol: str, generator: np.random.Generator) -> Atoms:
    """A rattled, slightly strained cell of 4 or 8 atoms, labelled by effective-medium theory."""
    atoms = bulk(symbol, cubic=True) * (1 + int(generator.integers(2)), 1, 1)
    atoms.set_cell(atoms.cell * (1 + 0.01 * generator.normal()), scale_atoms=True)
    atoms.positions += 0.08 * generator.normal(size=atoms.positions.shape)
    atoms.calc = EMT()
    results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def crystals(count: int, seed: int) -> list[Atoms]:
    """Copper and gold in turn, never together."""
    generator = np.random.default_rng(seed)
    return [crystal(("Cu", "Au")[index % 2], generator) for index in range(count)]


def samples(frames: list[Atoms], cutoff: float = 4.0) -> list[Sample]:
    """As a training sees them."""
    return [sample_of(Frame(atoms, f"frame {index}"), cutoff) for index, atoms in enumerate(frames)]


def knowing(settings: dict[str, object]) -> Potential:
    """A potential of these settings that knows the limits of sixty crystals."""
    training, held = samples(crystals(60, seed=1)), samples(crystals(30, seed=2))
    statistics, _ = fit_statistics(training, "lstsq")
    torch.manual_seed(0)
    potential = Potential.build(parse(settings, ModelConfig, "test"), statistics).double().eval()
    potential.domain = fit_domain(potential, training, held)
    return potential
