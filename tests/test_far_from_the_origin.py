"""float32 models lose no digits to where a structure stands, which image of an atom is written, or how many cells."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import make_supercell
from systems import SPECIES, SYSTEMS, slab, triclinic

from mlanet.calculator import MLANetCalculator
from mlanet.models import MLANetConfig, read_model_config
from mlanet.potential import Potential
from mlanet.statistics import Statistics

FAR = 2.0**17
"""Å, some 10⁵; a power of two, so that a structure on the grid below is moved without any rounding."""
GRID = 2.0**-30
"""Å."""
MODELS: dict[str, tuple[str, dict[str, Any], str]] = {
    "mlanet": ("mlanet_l2_fast", {}, "plain"),
    "mlanet, fused": ("mlanet_l2_fast", {}, "fused"),
    "mlanet, direct": ("mlanet_l2_fast", {"forces": "direct"}, "plain"),
    "mlanet, long range": ("mlanet_l2_fast", {"long_range": "both"}, "plain"),
    "leignn": ("leignn", {}, "plain"),
    "leignn, fused": ("leignn", {}, "fused"),
    "leignn, long range": ("leignn_coulomb", {}, "plain"),
    "leignn, direct": ("leignn_direct", {}, "plain"),
}


def potential(name: str) -> Potential:
    preset, keys, kernels = MODELS[name]
    config = read_model_config(preset)
    size: dict[str, Any] = (
        {"irreps": "8x0e+8x1o+8x2e", "hidden": 8, "key_dim": 2} if isinstance(config, MLANetConfig) else {"channels": 8}
    )
    torch.manual_seed(4)
    statistics = Statistics(SPECIES, (-1.5, -7.25, -11.0), (1.0, 0.8, 1.3), 12.0)
    return Potential.build(msgspec.structs.replace(config, **size, **keys), statistics).eval().with_kernels(kernels)


def on_the_grid(atoms: Atoms) -> Atoms:
    """The structure with coordinates that a shift by `FAR` leaves exact."""
    atoms = atoms.copy()
    atoms.positions = np.round(atoms.positions / GRID) * GRID
    atoms.set_cell(np.round(atoms.cell.array / GRID) * GRID)
    return atoms


def forces(model: Potential, atoms: Atoms, skin: float = 0.0) -> np.ndarray:
    atoms = atoms.copy()
    atoms.calc = MLANetCalculator(model, skin=skin, kernels="plain" if skin else "auto")
    return atoms.get_forces()  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", MODELS)
def test_a_move_by_a_hundred_thousand_angstroms_changes_nothing(name: str) -> None:
    """Less than 10⁻³ meV/Å, the whole structure moved, and single atoms moved by lattice vectors."""
    model = potential(name)
    assert model.dtype == torch.float32
    for system in ("ethanol", "triclinic", "slab"):
        near = on_the_grid(SYSTEMS[system])
        far = near.copy()
        far.positions += [FAR, -FAR, 2 * FAR]
        images = near.copy()
        images.positions[0] += (2**15 * near.cell.array[near.pbc]).sum(axis=0)
        given = forces(model, near)
        for other in (far, images) if near.pbc.any() else (far,):
            assert np.abs(forces(model, other) - given).max() < 1e-6


@pytest.mark.parametrize("name", ["mlanet", "leignn"])
def test_a_list_with_a_skin_is_as_exact(name: str) -> None:
    """The path that dynamics takes, list built once and atoms moved since."""
    model, near = potential(name), on_the_grid(triclinic())
    far = near.copy()
    far.positions += FAR
    assert np.abs(forces(model, near, skin=0.5) - forces(model, far, skin=0.5)).max() < 1e-6
    moving = far.copy()
    moving.calc = MLANetCalculator(model, skin=0.5)
    moving.get_forces()
    moving.positions[1] += GRID * 2**27
    fresh = near.copy()
    fresh.positions[1] += GRID * 2**27
    assert moving.calc.neighbor_lists_built == 1
    assert np.abs(moving.get_forces() - forces(model, fresh)).max() < 1e-6


@pytest.mark.parametrize("name", ["mlanet", "leignn"])
def test_supercells_order_and_images_cost_only_rounding(name: str) -> None:
    """In float32 what is left are the roundings of sums: some 10⁻⁷ of the largest force."""
    model = potential(name)
    order = np.random.default_rng(0).permutation(4)
    for system in (triclinic(), slab()):
        given = forces(model, system)
        size = max(1.0, float(np.abs(given).max()))
        many = make_supercell(system, np.diag([3, 1, 1]))
        image = system.copy()
        image.positions += np.array([[4, 0, 0], [0, -5, 0], [3, 2, 0], [0, 0, 0]]) @ system.cell.array
        assert np.abs(forces(model, many).reshape(3, -1, 3) - given).max() < 3e-6 * size
        assert np.abs(forces(model, image) - given).max() < 3e-6 * size
        assert np.abs(forces(model, system[order]) - given[order]).max() < 3e-6 * size
