"""Charge is an input like any other: extensive, known to both models, and never ignored without a word."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from ase import Atoms
from systems import SYSTEMS, triclinic

from mlanet.calculator import MLANetCalculator
from mlanet.config import parse
from mlanet.data.atoms import to_graph
from mlanet.laws import LAWS, promised, run_laws
from mlanet.models import ModelConfig, as_written
from mlanet.potential import Potential
from mlanet.statistics import Statistics

SMALL: dict[str, dict[str, Any]] = {
    "leignn": {"model": "leignn", "channels": 8, "layers": 2},
    "mlanet": {"model": "mlanet", "irreps": "8x0e+8x1o", "layers": 1, "key_dim": 2, "hidden": 8},
}
BOTH = pytest.mark.parametrize("base", SMALL.values(), ids=SMALL)


def potential(base: dict[str, Any], **keys: Any) -> Potential:
    torch.manual_seed(2)
    return Potential.build(parse(base | keys, ModelConfig, "test"), Statistics.unit((1, 6, 8))).double().eval()


def energy(model: Potential, atoms: Atoms, charge: float) -> float:
    return float(model(to_graph(atoms, model.cutoff, charge=charge)).energy[0])


@BOTH
def test_two_cells_of_twice_the_charge_have_twice_the_energy(base: dict[str, Any]) -> None:
    """To rounding; and the charge is felt."""
    model, one = potential(base, charge="total"), triclinic()
    assert energy(model, one.repeat((2, 1, 1)), 6.0) == pytest.approx(2 * energy(model, one, 3.0), abs=1e-12)
    assert abs(energy(model, one, 3.0) - energy(model, one, 0.0)) > 1e-3
    assert abs(energy(model, one, 3.0) - energy(model, one, -3.0)) > 1e-3


@BOTH
@pytest.mark.parametrize(
    "keys", [{"charge": "total"}, {"charge": "atomic"}, {"long_range": "coulomb", "charge_sum": "total"}]
)
def test_laws_of_charged_structures(base: dict[str, Any], keys: dict[str, Any]) -> None:
    """Those promised hold where charges are not zero; that Q is spread over far fragments is declared."""
    model = potential(base, cutoff=4.2, **keys)
    systems = {"part of a molecule": SYSTEMS["ethanol"][:4]} | {name: SYSTEMS[name] for name in ("triclinic", "apart")}
    laws = [law for law in LAWS if law.name not in ("reciprocity", "stress", "forces")]
    results = list(run_laws(model, systems, laws))
    assert any("charge" in one.detail for one in results)
    broken = [one for one in results if one.promised and not one.holds]
    assert not broken, broken
    assert ("far fragments" in promised(model)) is (keys == {"charge": "atomic"})


def test_the_form_of_old_models_is_kept_and_is_not_extensive() -> None:
    """A file without the key read (Q, Q/N)."""
    base = SMALL["mlanet"] | {"charge": "total"}
    assert as_written(base)["total_charge"] == "whole"
    model, one = potential(base, total_charge="whole"), triclinic()
    assert "supercell" not in promised(model)
    assert abs(energy(model, one.repeat((2, 1, 1)), 6.0) - 2 * energy(model, one, 3.0)) > 1e-3
    (column,) = (parameter for name, parameter in model.named_parameters() if name == "model.charge.weight")
    q = torch.tensor([3.0, 0.75], dtype=torch.float64)
    assert torch.allclose(model.model.charge(to_graph(one, 5.0, charge=3.0))[0], q @ column)


@BOTH
def test_a_model_that_ignores_charge_says_so_once(base: dict[str, Any]) -> None:
    """And one that reads it does not."""
    atoms = triclinic()
    atoms.info["charge"] = 2
    atoms.calc = MLANetCalculator(potential(base))
    with pytest.warns(UserWarning, match=r"total charge of \+2 e, which this model ignores"):
        atoms.get_potential_energy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        atoms.rattle(0.01)
        atoms.get_potential_energy()
        atoms.calc = MLANetCalculator(potential(base, charge="total"), kernels="plain")
        atoms.get_potential_energy()
