"""A small model with random weights, structures for calculators of ASE, and how their results are compared."""

from __future__ import annotations

import numpy as np
import torch
from ase import Atoms, units
from ase.build import bulk, graphene

from mlanet.calculator import MLANetCalculator
from mlanet.config import parse
from mlanet.models import ModelConfig
from mlanet.potential import Potential
from mlanet.statistics import Statistics

STATISTICS = Statistics((1, 6, 8, 14), (-13.6, -1035.2, -2043.1, -289.4), (1.0, 1.0, 1.0, 1.0), 12.0)


def build(seed: int = 0, **changes: object) -> Potential:
    """A small MLANet with random weights; any keys of its configuration may be changed."""
    data = {"model": "mlanet", "irreps": "8x0e+8x1o", "layers": 2, "heads": 2, "hidden": 8, "cutoff": 4.0, **changes}
    torch.manual_seed(seed)
    return Potential.build(parse(data, ModelConfig, "test"), STATISTICS)


def silicon(repeat: int = 1, seed: int = 0) -> Atoms:
    """A rattled crystal."""
    atoms = bulk("Si", "diamond", a=5.43, cubic=True) * (repeat, 1, 1)
    atoms.rattle(0.1, seed=seed)
    return atoms


def layer() -> Atoms:
    """Rattled graphene, periodic in two directions, with vacuum."""
    atoms = graphene(size=(2, 2, 1), vacuum=6.0)
    atoms.rattle(0.1, seed=3)
    return atoms


def numbers(atoms: Atoms, calculator: MLANetCalculator) -> dict[str, np.ndarray | float]:
    """All results for a structure, from scratch."""
    calculator.reset()
    calculator.calculate(atoms)
    return dict(calculator.results)


def assert_same(one: dict[str, np.ndarray | float], other: dict[str, np.ndarray | float], tolerance: float) -> None:
    """All results agree to an absolute tolerance."""
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=0, atol=tolerance, err_msg=name)


def thermalize(atoms: Atoms, kelvin: float) -> None:
    """Momenta of a temperature."""
    spread = np.sqrt(atoms.get_masses() * units.kB * kelvin)[:, None]
    atoms.set_momenta(spread * np.random.default_rng(1).normal(size=(len(atoms), 3)))
