"""Energies, forces and stress are what the equations gave when they were written down (`golden.py`), by every kernel.

Laws allow many models; these numbers allow one: a factor or a term that is lost shows here.
"""

from __future__ import annotations

import json
import typing
from pathlib import Path

import msgspec
import pytest
from golden import NUMBERS, SWITCHES, model, numbers
from mutants import listed

import mlanet
from mlanet.models import LEIGNNConfig, MLANetConfig
from mlanet.potential import Potential

EXPECTED = json.loads(NUMBERS.read_text())


def require_golden(name: str, potential: Potential) -> None:
    """To 10⁻¹⁰ of the largest number of each kind, or of 1."""
    for kind, found in numbers(potential).items():
        expected = EXPECTED[name][kind]
        assert found == pytest.approx(expected, rel=0, abs=1e-10 * max(1.0, *map(abs, expected))), kind


@pytest.mark.parametrize("name", SWITCHES)
def test_numbers_are_those_of_the_equations(name: str) -> None:
    """In float64, by plain torch."""
    require_golden(name, model(name))


FUSED = ["mlanet", "mlanet l1", "mlanet full", "mlanet sum", "mlanet radial network, no product", "leignn"]
FUSED += ["leignn both", "mlanet crowded", "leignn crowded", "mlanet periodic elements, bonds"]
FUSED += ["mlanet dipole and polarizability", "leignn dipole", "mlanet no attention", "mlanet output gate"]
FUSED += ["mlanet envelope once"]


@pytest.mark.parametrize("name", FUSED)
def test_fused_kernels_give_them_too(name: str) -> None:
    """By compiled kernels."""
    potential = model(name)
    assert not potential.kernels_obstacle()
    require_golden(name, potential.with_kernels("fused"))


@pytest.mark.parametrize(("tag", "config"), [("mlanet", MLANetConfig), ("leignn", LEIGNNConfig)])
def test_every_value_of_every_switch_is_there(tag: str, config: type[msgspec.Struct]) -> None:
    """A new switch needs numbers."""
    given = [one for one in SWITCHES.values() if one["model"] == tag]
    missing = []
    for field, hint in ((one, typing.get_type_hints(config)[one.name]) for one in msgspec.structs.fields(config)):
        name, default = field.name, field.default
        values = typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else ()
        values = (True, False) if hint is bool else values
        missing += [(name, value) for value in values if not any(one.get(name, default) == value for one in given)]
    shared = {("charge_sum", "total"), ("long_range", "dispersion"), ("long_range", "coulomb")}  # one code for both
    shared |= {("c6", "learned"), ("long_range", "both")}
    assert not set(missing) - shared, missing


def test_every_listed_mutant_has_its_line() -> None:
    """Once, where it is said to stand: the list follows the code, so that `make mutants` asks about what is there."""
    package = Path(mlanet.__file__).parent
    lost = [one.name for one in listed() if (package / one.file).read_text().count(one.right) != 1]
    assert not lost
