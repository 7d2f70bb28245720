"""As a model of torch-sim, where that is installed: its own checks, the calculator's numbers, runs of a batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

ts = pytest.importorskip("torch_sim")

from torch_sim.models.interface import validate_model_outputs  # noqa: E402

import mlanet  # noqa: E402
from mlanet.config import parse  # noqa: E402
from mlanet.errors import ConfigError, GeometryError, UnsupportedElementError  # noqa: E402
from mlanet.models import ModelConfig  # noqa: E402
from mlanet.potential import Potential  # noqa: E402
from mlanet.statistics import Statistics  # noqa: E402
from mlanet.torch_sim import TorchSimModel  # noqa: E402

TINY = {"model": "mlanet", "irreps": "8x0e+8x1o", "layers": 1, "hidden": 8, "radial_hidden": [8], "cutoff": 5.0}
SPECIES = (1, 6, 12, 14, 26, 29)


@pytest.fixture(scope="module")
def potential() -> Potential:
    torch.manual_seed(0)
    return Potential.build(parse(TINY, ModelConfig, "test"), Statistics.unit(SPECIES)).double().eval()


def crystals() -> list[Atoms]:
    found = [bulk("Si", cubic=True), bulk("Cu"), bulk("Fe") * (2, 1, 1), bulk("Mg")]
    for seed, atoms in enumerate(found):
        atoms.rattle(0.05, seed=seed)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.02 * np.eye(3, k=1)), scale_atoms=True)
    return found


def state_of(structures: list[Atoms], dtype: torch.dtype = torch.float64):
    return ts.io.atoms_to_state(structures, torch.device("cpu"), dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_torch_sims_own_checks(potential, dtype: torch.dtype) -> None:
    model = TorchSimModel(potential, dtype=dtype)
    validate_model_outputs(model, torch.device("cpu"), dtype)
    said = model(state_of(crystals(), dtype))
    assert {one.dtype for one in said.values()} == {dtype} and not any(one.requires_grad for one in said.values())


def test_a_batch_says_what_the_calculator_says(potential) -> None:
    """Also when a list has served, and of atoms that have left their cell; what is given is left alone."""
    model, calculator = TorchSimModel(potential), mlanet.MLANetCalculator(potential)
    for step in range(3):
        structures = crystals()
        for atoms in structures:
            atoms.rattle(0.02 * step, seed=step)
            atoms.positions[0] += 7 * (step == 2) * atoms.cell.array[0]
        state = state_of(structures)
        before = state.positions.clone()
        said = model(state)
        assert torch.equal(before, state.positions)
        start = 0
        for index, atoms in enumerate(structures):
            alone = atoms.copy()
            alone.calc = calculator
            assert float(said["energy"][index]) == pytest.approx(alone.get_potential_energy(), abs=1e-10)
            assert np.allclose(said["forces"][start : start + len(atoms)], alone.get_forces(), atol=1e-10)
            assert np.allclose(said["stress"][index], alone.get_stress(voigt=False), atol=1e-12)
            start += len(atoms)


def test_what_torch_sim_cannot_hold_is_refused(potential) -> None:
    """A sheet is never computed as a molecule: refused, or right where torch-sim keeps each direction."""
    sheet, calculator = bulk("Cu", cubic=True), mlanet.MLANetCalculator(potential)
    sheet.pbc = (True, True, False)
    state, model = state_of([sheet]), TorchSimModel(potential)
    if isinstance(state.pbc, bool):
        with pytest.raises(GeometryError, match="sheets"):
            model(state)
    else:
        sheet.calc = calculator
        assert np.allclose(model(state)["forces"], sheet.get_forces(), atol=1e-10)
    molecules = TorchSimModel(potential, molecules=True)
    said = molecules(state_of([molecule("CH4", vacuum=3.0)]))
    assert said["energy"].shape == (1,) and bool(said["stress"].isnan().all())
    with pytest.raises(UnsupportedElementError, match="system 1"):
        model(state_of([bulk("Cu"), bulk("Au")]))


def test_memory_of_a_batch_is_forecast(potential) -> None:
    """More memory lets more in, in proportion once weights are a small part."""
    model = TorchSimModel(potential)
    state = state_of(crystals())
    some, more = (model.max_memory_scaler(state, gib) for gib in (0.5, 1.0))
    assert 1.5 * some < more < 2.5 * some
    with pytest.raises(ConfigError, match="GiB"):
        model.max_memory_scaler(state, 1e-5)


def test_a_batch_is_relaxed_and_run(potential) -> None:
    """torch-sim's optimizer and thermostat with our model: downhill, and at a temperature."""
    model = TorchSimModel(mlanet.DEFAULT_MODEL)
    structures = [bulk("Si"), bulk("C"), bulk("Cu")]
    for seed, atoms in enumerate(structures):
        atoms.rattle(0.05, seed=seed)
    start = model(state_of(structures))["energy"]
    optimizer = getattr(ts, "frechet_cell_fire", None) or ts.Optimizer.fire
    final = ts.optimize(structures, model, optimizer=optimizer, max_steps=15)
    assert (model(final)["energy"] < start).all()
    integrator = getattr(ts, "nvt_langevin", None) or ts.Integrator.nvt_langevin
    ran = ts.integrate(structures, model, integrator=integrator, n_steps=5, temperature=300, timestep=0.001)
    assert torch.isfinite(ran.positions).all() and not torch.equal(ran.positions, state_of(structures).positions)
