"""Nothing falls into a hole between atoms: presets have a wall, and so has the packaged model."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from mlanet.checkpoint import load_model, model_path, read_model_header
from mlanet.config import preset_names
from mlanet.laws import LAWS, promised, run_laws
from mlanet.laws.law import ask_all
from mlanet.models import LEIGNNConfig, as_written, read_model_config
from mlanet.potential import Potential
from mlanet.statistics import Statistics

CRYSTALS = {"Li": bulk("Li", "bcc", a=3.43), "Si": bulk("Si", a=5.46), "Mo": bulk("Mo", "bcc", a=3.16)}
WALL = [law for law in LAWS if law.name in ("wall", "compression")]


def test_every_conservative_preset_has_a_wall_and_published_ones_do_not() -> None:
    """And models from before the key keep what they had."""
    for name in preset_names():
        config = read_model_config(name)
        assert config.repulsion == ("zbl" if config.forces == "gradient" or name == "leignn_direct" else "none"), name
    assert as_written({"model": "mlanet"})["repulsion"] == "none"
    assert as_written({"model": "mlanet", "repulsion": "zbl"})["repulsion"] == "zbl"


def test_the_packaged_model_has_no_collapsed_phase() -> None:
    """Both laws are kept; dimers of unlike elements, which it never saw, repel too; a compressed crystal only rises."""
    potential = load_model(model_path("elemental"), dtype=torch.float64)
    results = list(run_laws(potential, CRYSTALS, WALL))
    assert len(results) == 6 and all(one.holds and one.promised for one in results), results
    mixed = list(run_laws(potential, {"all": Atoms("LiSiMo", 3 * np.eye(3))}, WALL))
    assert [one.law for one in mixed] == ["wall"] and mixed[0].holds
    for crystal in CRYSTALS.values():
        squeezed = []
        for factor in np.geomspace(1.0, 0.3, 30):
            squeezed.append(crystal.copy())
            squeezed[-1].set_cell(factor * crystal.cell.array, scale_atoms=True)
        at_rest, *energies = (one.energy for one in ask_all(potential, squeezed))
        assert (np.diff([at_rest, *energies[1:]]) > 0).all() and energies[-1] > at_rest + 30


def test_the_packaged_model_says_what_its_lone_atoms_are() -> None:
    """Its page says that they are fitted; so does the file, to `info` and to whoever asks for a lone atom."""
    statistics = read_model_header(model_path("elemental")).statistics
    assert statistics.references_from == "lstsq" and "least squares" in str(statistics.lone_atoms)


def test_without_the_wall_the_law_is_broken_and_not_promised() -> None:
    """The same weights without it."""
    sound = load_model(model_path("elemental"), dtype=torch.float64)
    config = msgspec.structs.replace(sound.model.config, repulsion="none")
    bare = Potential.build(config, sound.statistics).double().eval()
    bare.load_state_dict(sound.state_dict())
    results = list(run_laws(bare, {"Li": CRYSTALS["Li"]}, WALL))
    assert not promised(bare) & {"wall", "compression"}
    assert any(not one.holds and one.deviation > 0.1 for one in results)


def test_latent_charges_fade_inside_the_wall_and_nowhere_else() -> None:
    """A crystal of charges that were made up must not be pulled together by them."""
    torch.manual_seed(0)
    config = LEIGNNConfig(channels=8, layers=1, long_range="coulomb")
    statistics = Statistics((11, 17), (0.0, 0.0), (1.0, 1.0), 12.0, closest=((3.0, 2.5), (2.5, 3.0)))
    potential = Potential.build(config, statistics).double().eval()
    none = Potential.build(msgspec.structs.replace(config, repulsion="none"), statistics).double().eval()
    none.load_state_dict(potential.state_dict())
    from mlanet.data.atoms import to_graph

    for size, same in ((5.6, True), (2.0, False)):
        graph = to_graph(bulk("NaCl", "rocksalt", a=size), 5.0)
        charges, bare = potential(graph).charges, none(graph).charges
        assert charges is not None and bare is not None
        assert torch.equal(charges, bare) is same
        assert same or float(charges.abs().max()) < 0.1 * float(bare.abs().max())


@pytest.mark.parametrize("law", WALL, ids=lambda law: law.name)
def test_an_untrained_model_has_seen_nothing(law: object) -> None:
    """So the laws have nothing to say of it."""
    potential = Potential.build(LEIGNNConfig(channels=8, layers=1), Statistics.unit((3,))).double().eval()
    assert not list(run_laws(potential, {"Li": CRYSTALS["Li"]}, WALL))
