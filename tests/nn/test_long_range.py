"""The long-range term inside models: constants, charges, what is refused, and what it adds."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule, mx2
from ase.calculators.calculator import PropertyNotImplementedError

from mlanet.calculator import MLANetCalculator
from mlanet.config import parse
from mlanet.data.atoms import to_graph
from mlanet.errors import ConfigError
from mlanet.graph import batch_graphs
from mlanet.inference import split
from mlanet.models import LEIGNN, LEIGNNConfig, MLANet, ModelConfig, as_written, read_model_config
from mlanet.nn.free_atoms import free_c6
from mlanet.nn.long_range import LongRange
from mlanet.potential import Potential
from mlanet.statistics import Statistics

LEIGNN_SMALL = {"model": "leignn", "channels": 8, "layers": 2, "cutoff": 4.0}
MLANET_SMALL = {
    "model": "mlanet",
    "irreps": "8x0e+8x1o",
    "layers": 1,
    "key_dim": 2,
    "hidden": 8,
    "radial_hidden": [8],
    "cutoff": 4.0,
}
BOTH = pytest.mark.parametrize("base", [LEIGNN_SMALL, MLANET_SMALL], ids=["leignn", "mlanet"])


def potential(base: dict[str, Any], species: tuple[int, ...] = (1, 6, 8), **keys: Any) -> Potential:
    torch.manual_seed(1)
    config = parse(base | keys, ModelConfig, "test")
    return Potential.build(config, Statistics.unit(species)).double().eval()


def term(built: Potential) -> LongRange:
    assert isinstance(built.model, LEIGNN | MLANet)
    assert built.model.long_range is not None
    return built.model.long_range


def energy(built: Potential, atoms: Atoms) -> float:
    return float(built(to_graph(atoms, built.cutoff)).energy[0])


def charges(built: Potential, atoms: Atoms) -> torch.Tensor:
    found = built(to_graph(atoms, built.cutoff)).charges
    assert found is not None
    return found


def sheets(distance: float) -> Atoms:
    return Atoms("C2", [[0, 0, 0], [0.4, 0.9, distance]], cell=[2.0, 2.0, 60.0], pbc=[True, True, False])


@BOTH
def test_flat_beyond_the_cutoff_without_the_term_and_a_fourth_power_with_it(base: dict[str, Any]) -> None:
    """Two sheets 10 and 20 Å apart: nothing, or −(π/2) C₆/(a⁴ d⁴) per cell to the accuracy of the next order."""
    alone = potential(base)
    assert energy(alone, sheets(10.0)) == pytest.approx(energy(alone, sheets(25.0)), abs=1e-12)
    bound = potential(base, long_range="dispersion")
    far = energy(bound, sheets(60.0))
    c6 = float(free_c6((6,)))
    for d in (15.0, 25.0):
        expected = -math.pi / 2 * c6 / 2.0**2 * (1 / d**4 - 1 / 60.0**4) / 2.0**2 * 2.0**2
        assert energy(bound, sheets(d)) - far == pytest.approx(expected, rel=1e-6)


def test_free_atoms_have_published_coefficients() -> None:
    """Tkatchenko and Scheffler (2009), in hartree bohr⁶: C 46.6, P 185, H 6.5."""
    unit = 27.211386 * 0.52917721**6
    found = free_c6((1, 6, 15)) / unit
    assert torch.allclose(found, torch.tensor([6.5, 46.6, 185.0], dtype=torch.float64), rtol=1e-4)


@BOTH
def test_charges_act_at_any_distance_and_lone_atoms_have_none(base: dict[str, Any]) -> None:
    """E(A + B) − E(A) − E(B) = k q_A q_B / d for molecules 4000 Å apart, multipoles aside; dispersion is gone there."""
    built = potential(base, long_range="coulomb")
    with torch.no_grad():
        for parameter in term(built).parameters():
            parameter.mul_(4)
    water, other = molecule("H2O"), molecule("CH3OH")
    parts = energy(built, water) + energy(built, other)
    q_a, q_b = (float(charges(built, one).sum()) for one in (water, other))
    other.positions += [4000.0, 0, 0]
    whole = energy(built, water + other)
    assert abs(q_a * q_b) > 1e-4
    expected = 14.399645 * q_a * q_b / 4000
    # Dipoles are 1 Å × q, so the next order is 1/4000 of this one.
    assert whole - parts == pytest.approx(expected, rel=2e-3)
    graph = to_graph(Atoms("O", [[0, 0, 0]]), built.cutoff)
    assert float(built(graph).energy[0]) == pytest.approx(0.0, abs=1e-12)


@BOTH
def test_charges_add_up_when_asked_to(base: dict[str, Any]) -> None:
    """To the total charge of each structure of a batch."""
    built = potential(base, long_range="coulomb", charge_sum="total")
    atoms = molecule("H2O")
    atoms.info["total_charge"] = -1
    neutral = molecule("CH4")
    batch = batch_graphs([to_graph(one, built.cutoff) for one in (atoms, neutral)])
    both = split(built(batch), batch)
    sums = [float(one.charges.sum()) for one in both if one.charges is not None]
    assert sums == pytest.approx([-1.0, 0.0], abs=1e-12)
    neutral.calc = MLANetCalculator(built)
    assert neutral.get_charges() == pytest.approx(both[1].charges.numpy(), abs=1e-9)
    neutral.calc = MLANetCalculator(potential(base))
    with pytest.raises(PropertyNotImplementedError):
        neutral.get_charges()


@BOTH
def test_learned_coefficients_start_from_the_free_atoms_and_stay_bounded(base: dict[str, Any]) -> None:
    """Untrained, `learned` is `fixed` to some per cent; a readout driven far out changes √C₆ by half at most."""
    atoms = sheets(9.0)
    fixed, learned = (potential(base, long_range="dispersion", c6=word) for word in ("fixed", "learned"))
    graph = to_graph(atoms, fixed.cutoff).to(dtype=torch.float64)
    scalars = torch.randn(2, 8, dtype=torch.float64)
    assert torch.allclose(term(learned).root(scalars, graph), term(fixed).root(scalars, graph), rtol=0.02)
    readout = term(learned).polarizability
    assert readout is not None
    with torch.no_grad():
        readout[2].bias.fill_(1e3)
    ratio = term(learned).root(scalars, graph) / term(fixed).root(scalars, graph)
    assert torch.allclose(ratio, torch.full_like(ratio, 1.5), rtol=1e-12)


@BOTH
def test_training_reaches_every_weight(base: dict[str, Any]) -> None:
    """Gradients of a force loss arrive in charges and coefficients, and agree with differences."""
    built = potential(base, long_range="both", c6="learned").train()
    graph = to_graph(molecule("CH3OH"), built.cutoff)
    names = [name for name, _ in built.named_parameters() if "long_range" in name]
    assert len(names) == 7
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            if "long_range" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))

    def loss() -> torch.Tensor:
        prediction = built(graph)
        return prediction.forces.square().sum() + prediction.energy.square().sum()

    found = dict(zip(names, torch.autograd.grad(loss(), [built.get_parameter(n) for n in names]), strict=True))
    for name in names:
        parameter = built.get_parameter(name).detach().view(-1)
        place = int(found[name].abs().argmax())
        step, value = 1e-5, float(parameter[place])
        ends = []
        for side in (-1, 1):
            parameter[place] = value + side * step
            ends.append(float(loss()))
        parameter[place] = value
        assert float(found[name].view(-1)[place]) == pytest.approx((ends[1] - ends[0]) / (2 * step), rel=1e-6)
        assert float(found[name].view(-1)[place]) != 0


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"long_range": "dispersion", "smearing": 0.1}, "smearing must lie between"),
        ({"c6": "learned"}, "c6 has a meaning only with"),
        ({"long_range": "dispersion", "charge_sum": "total"}, "charge_sum has a meaning only with"),
        ({"long_range": "coulomb", "forces": "direct"}, "needs `forces: gradient`"),
        ({"long_range": "False"}, "long_range"),
    ],
)
@BOTH
def test_settings_without_a_meaning_are_refused(base: dict[str, Any], keys: dict[str, Any], message: str) -> None:
    """With the key in the message."""
    with pytest.raises(ConfigError, match=message):
        potential(base, **keys)


def test_an_element_without_a_coefficient_is_named() -> None:
    """Instead of a silent zero; a value of one's own serves it, or changes another."""
    with pytest.raises(ConfigError, match=r"no C6 coefficient of the free atom is tabulated for Lr .*'free_c6: {Lr"):
        potential(LEIGNN_SMALL, (8, 103), long_range="dispersion")
    built = potential(LEIGNN_SMALL, (8, 103), long_range="dispersion", c6="learned", free_c6={"Lr": 900.0, "O": 4.0})
    assert term(built).root_c6.square().tolist() == pytest.approx([4.0, 900.0])
    for own in ({"Xx": 1.0}, {"Mo": -1.0}):
        with pytest.raises(ConfigError, match="free_c6"):
            potential(LEIGNN_SMALL, long_range="dispersion", free_c6=own)


def test_every_element_to_nobelium_has_a_coefficient() -> None:
    """Positive, of the size that its neighbours in the table have, and those of the sources to their digits."""
    found = free_c6(range(1, 103)) / (27.211386 * 0.52917721**6)
    assert float(found.min()) == pytest.approx(1.42, rel=1e-3) and float(found.max()) == pytest.approx(6657.0, rel=1e-6)
    published = {42: 1025.0, 74: 757.0, 50: 715.0, 83: 513.0, 52: 445.0, 16: 134.0, 92: 1877.1}
    for number, value in published.items():
        assert float(found[number - 1]) == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize("formula", ["MoS2", "WSe2", "SnS2", "Bi2Te3"])
def test_layers_of_heavy_elements_attract_beyond_the_cutoff(formula: str) -> None:
    """Two sheets 14 and 30 Å apart: −Σ √(C₆ᵢC₆ⱼ)/r⁶ over the pairs between them, summed image by image."""
    if formula == "Bi2Te3":
        sheet = Atoms("TeBiTeBiTe", [[0, 0, 0], [2.19, 1.26, 1.7], [0, 2.53, 3.7], [0, 0, 5.7], [2.19, 1.26, 7.4]])
        sheet.set_cell([[4.38, 0, 0], [-2.19, 3.79, 0], [0, 0, 60]])
    else:
        kind = "1T" if formula == "SnS2" else "2H"
        sheet = mx2(formula, kind=kind, a=3.3, thickness=3.1, vacuum=20)
    sheet.pbc = [True, True, False]
    species = tuple(sorted(set(sheet.numbers.tolist())))
    preset = read_model_config("leignn_dispersion")
    torch.manual_seed(0)
    config = msgspec.structs.replace(preset, channels=8, layers=1, c6="fixed")
    built = Potential.build(config, Statistics.unit(species)).double().eval()
    height = float(np.ptp(sheet.positions[:, 2]))
    energies, sums = [], []
    for gap in (14.0, 30.0):
        other = sheet.copy()
        other.positions[:, 2] += height + gap
        energies.append(energy(built, sheet + other))
        c6 = free_c6(sheet.numbers.tolist()).sqrt().numpy()
        images = np.stack(np.meshgrid(range(-60, 61), range(-60, 61), [0], indexing="ij"), -1).reshape(-1, 3)
        vectors = other.positions[None, :, None] - sheet.positions[:, None, None] + images @ sheet.cell.array
        sums.append(-float(np.einsum("i,j,ijs->", c6, c6, (vectors**2).sum(-1) ** -3.0)))
    assert energies[0] - energies[1] < -1e-3
    assert energies[0] - energies[1] == pytest.approx(sums[0] - sums[1], rel=1e-3)


@BOTH
def test_ions_may_lose_all_their_dispersion(base: dict[str, Any]) -> None:
    """s goes from 0 to 1.5 and is 1 at the start; models from before `c6_least` have 1 + ½ tanh x."""
    built = potential(base, long_range="dispersion", c6="learned")
    readout, graph = term(built).polarizability, to_graph(sheets(9.0), built.cutoff)
    scalars = torch.zeros(2, 8, dtype=torch.float64)
    assert readout is not None
    free = free_c6((6,)).sqrt()
    for x, factor in ((0.0, 1.0), (-20.0, 0.0), (20.0, 1.5)):
        with torch.no_grad():
            readout[2].weight.zero_()
            readout[2].bias.fill_(x)
        assert torch.allclose(term(built).root(scalars, graph), factor * free.expand(2), atol=1e-9)
    old = potential(base, long_range="dispersion", c6="learned", c6_least=0.5)
    with torch.no_grad():
        term(old).polarizability[2].weight.zero_()
        term(old).polarizability[2].bias.fill_(0.3)
    assert torch.allclose(term(old).root(scalars, graph), (1 + 0.5 * math.tanh(0.3)) * free.expand(2), rtol=1e-14)
    assert as_written(base | {"c6": "learned"})["c6_least"] == 0.5


def test_models_saved_before_the_term_existed_still_open() -> None:
    """Their configuration has none of its keys, and none is the default."""
    config = parse(LEIGNN_SMALL, ModelConfig, "old")
    assert isinstance(config, LEIGNNConfig)
    assert config.long_range == "none"
    assert dataclasses.asdict(Statistics.unit((1,)))["closest"] == ()


@pytest.mark.parametrize("pbc", [(True, True, False), (True, False, False)])
def test_stress_of_sheets_and_wires_does_not_feel_the_empty_space(pbc: tuple[bool, ...]) -> None:
    """σ V is the same for any height of the cell, and nothing acts along free directions but what acts on atoms."""
    built = potential(LEIGNN_SMALL, long_range="both")
    atoms = Atoms("COH", [[0, 0, 0], [1.2, 0.3, 0.4], [0.2, 1.1, 0.5]], cell=[2.9, 3.1, 9.0], pbc=pbc)
    first = built(to_graph(atoms, built.cutoff)).stress[0] * atoms.get_volume()
    atoms.set_cell(atoms.cell.array * np.where(pbc, 1.0, 2.5)[:, None])
    second = built(to_graph(atoms, built.cutoff)).stress[0] * atoms.get_volume()
    assert torch.allclose(first, second, rtol=0, atol=1e-11)
