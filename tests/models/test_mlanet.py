"""The configuration refuses what cannot work, and every weight of every preset is alive."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from systems import SPECIES, ethanol, triclinic

from mlanet.config import parse, preset_names, preset_path, to_data, to_yaml
from mlanet.data.atoms import to_graph
from mlanet.errors import ConfigError, GeometryError, UnsupportedElementError
from mlanet.graph import batch_graphs
from mlanet.models import MLANetConfig, ModelConfig, read_model_config
from mlanet.potential import Potential
from mlanet.statistics import Statistics

SMALL: dict[str, Any] = {"model": "mlanet", "irreps": "4x0e+4x1o", "layers": 2, "heads": 2, "key_dim": 2, "hidden": 4}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"irreps": "4x0e+4x1e"}, "4x0e.4x1e.*natural parity"),
        ({"irreps": "4x0e+8x1o"}, "one multiplicity"),
        ({"irreps": "4x0e+4x2e"}, "l = 0"),
        ({"irreps": "4x0e"}, "1, 2 or 3"),
        ({"irreps": "4x0e+4x1o+4x2e+4x3o+4x4e"}, "1, 2 or 3"),
        ({"irreps": "sixty-four"}, "cannot be read.*64x0e"),
        ({"heads": 3}, r"heads \(3\) must divide.*4"),
        ({"gate_channels": 3}, r"gate_channels \(3\) must divide.*4"),
        ({"gate_channels": 0}, "gate_channels must be positive"),
        ({"gate_channels": 8}, r"gate_channels \(8\) must divide.*4"),
        ({"cutoff": -1.0}, "cutoff must be positive"),
        ({"cutoff": float("nan")}, "'cutoff' is nan, not a number"),
        ({"radial_hidden": [0]}, "radial_hidden: .*widths, which must be positive"),
        ({"layers": 0}, "layers must be positive"),
        ({"leyers": 2}, "unknown key 'leyers'; did you mean 'layers'"),
        ({"attention": "tpdot"}, "attention"),
        ({"layers": "three"}, "'layers': Expected `int`"),
    ],
)
def test_impossible_configurations(changes: dict[str, Any], message: str) -> None:
    """Each error quotes what was given and says what is supported."""
    with pytest.raises(ConfigError, match=message):
        parse(SMALL | changes, ModelConfig, "my.yaml")


@pytest.mark.parametrize("name", preset_names())
def test_presets_are_short_and_survive_a_round_trip(name: str) -> None:
    """At most 20 lines; YAML and back is the same configuration."""
    config = read_model_config(name)
    assert len(preset_path(name).read_text().splitlines()) <= 20
    assert parse(to_data(config), ModelConfig, "again") == config
    tag = config.__struct_config__.tag
    assert name.startswith(tag) and f"model: {tag}" in to_yaml(config)


@pytest.mark.parametrize("name", preset_names())
def test_every_weight_learns(name: str) -> None:
    """A loss on E, F and σ reaches every parameter, so none is dead weight.

    Two exceptions by design: without a node product the last layer's directions lead nowhere; and the bias of the
    energy's last layer cancels, since a lone atom has its reference energy.
    """
    config = read_model_config(name)
    potential = Potential.build(config, Statistics.unit(SPECIES)).double().train()
    graph = batch_graphs([to_graph(one, potential.cutoff) for one in (ethanol(), triclinic())])
    prediction = potential(graph)
    weights = torch.randn_like(prediction.forces)
    stress = prediction.stress[~prediction.stress.isnan()]
    (prediction.energy.square().sum() + (prediction.forces * weights).sum() + stress.square().sum()).backward()
    dead = {n for n, p in potential.named_parameters() if p.grad is None or float(p.grad.abs().max()) == 0}
    lone_atoms = getattr(config, "isolated_atom", "free")
    cancelled = {"model.pooling.readout.2.bias", "model.readout.2.bias"} if lone_atoms == "zero" else set()
    # Rounding leaves the cancelled bias a gradient of 1e-16 now and then.
    assert dead <= cancelled, sorted(dead)


def test_groups_of_channels_share_a_gate() -> None:
    """Two channels of a degree read one gate: weights for all, repeated, are the same model."""
    config = parse(SMALL | {"gate_channels": 2}, MLANetConfig, "")
    shared = Potential.build(config, Statistics.unit(SPECIES)).eval()
    gates = [name for name in shared.state_dict() if ".attention.gates." in name]
    assert [len(shared.state_dict()[name]) for name in gates] == [4] * 4  # two layers, two degrees of two
    every = Potential.build(parse(SMALL, MLANetConfig, ""), Statistics.unit(SPECIES)).eval()
    weights = {k: v.repeat_interleave(2, 0) if k in gates else v for k, v in shared.state_dict().items()}
    every.load_state_dict(weights)
    graph = to_graph(ethanol(), shared.cutoff)
    torch.testing.assert_close(every(graph).forces, shared(graph).forces, rtol=0, atol=1e-6)
    for name in gates[1::2]:
        weights[name] = weights[name] + torch.arange(8)
    every.load_state_dict(weights)
    assert float((every(graph).forces - shared(graph).forces).abs().max()) > 1e-4


def test_charge_changes_the_energy() -> None:
    """`total` reads the structure's charge, `atomic` per-atom charges and says when there are none; `none` is blind."""
    energies = {}
    for charge in ("none", "total"):
        torch.manual_seed(0)
        potential = Potential.build(
            parse(SMALL | {"charge": charge}, MLANetConfig, ""), Statistics.unit(SPECIES)
        ).eval()
        energies[charge] = [
            float(potential(to_graph(ethanol(), potential.cutoff, charge=q)).energy) for q in (0.0, 1.0)
        ]
    assert energies["none"][0] == energies["none"][1]
    assert abs(energies["total"][0] - energies["total"][1]) > 1e-3
    atomic = Potential.build(parse(SMALL | {"charge": "atomic"}, MLANetConfig, ""), Statistics.unit(SPECIES))
    with pytest.raises(GeometryError, match="per-atom charges"):
        atomic(to_graph(ethanol(), atomic.cutoff))


def test_potential_refuses_what_it_cannot_answer() -> None:
    """An unknown element is named with its atom; a graph with too small a cutoff is refused."""
    potential = Potential.build(parse(SMALL, MLANetConfig, ""), Statistics.unit((1, 6))).eval()
    with pytest.raises(UnsupportedElementError, match=r"O \(first at atom 2\); it knows: H C"):
        potential(to_graph(ethanol(), potential.cutoff))
    with pytest.raises(GeometryError, match=r"cutoff 3\.0 Å is below"):
        potential(to_graph(ethanol(), 3.0))


def test_inference_mode_gives_the_same_forces() -> None:
    """Forces need a gradient; a caller's `inference_mode` does not take it away."""
    potential = Potential.build(parse(SMALL, MLANetConfig, ""), Statistics.unit(SPECIES)).eval()
    graph = to_graph(ethanol(), potential.cutoff)
    with torch.inference_mode():
        inside = potential(graph)
    assert torch.equal(inside.forces, potential(graph).forces)


def test_references_keep_their_digits() -> None:
    """Casting weights to float32 and back leaves E₀ in float64 as it was."""
    reference = -1234567.123456789
    statistics = Statistics((1,), (reference,), (1.0,), 5.0)
    potential = Potential.build(parse(SMALL, MLANetConfig, ""), statistics).float().double().float()
    assert potential.references.tolist() == [reference]
    assert potential.dtype == torch.float32
