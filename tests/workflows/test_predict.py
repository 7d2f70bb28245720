"""Prediction as a stream."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from mlanet.config import parse
from mlanet.data.read import Frame
from mlanet.errors import GeometryError, UnsupportedElementError
from mlanet.models import ModelConfig
from mlanet.potential import Potential
from mlanet.statistics import Statistics
from mlanet.workflows.predict import predict_frames, row

SMALL = {"model": "mlanet", "irreps": "4x0e+4x1o", "layers": 1, "hidden": 4, "radial_hidden": [4], "cutoff": 3.0}


@pytest.fixture(scope="module")
def potential() -> Potential:
    return Potential.build(parse(SMALL, ModelConfig, "test"), Statistics.unit((29,))).double().eval()


def test_any_number_of_frames_in_bounded_memory(potential: Potential) -> None:
    """An endless source of frames gives results at once: no more than one batch is read ahead."""
    read = 0

    def endless() -> Iterator[Frame]:
        nonlocal read
        while True:
            read += 1
            yield Frame(bulk("Cu", "fcc", a=3.6), f"endless, frame {read - 1}")

    predictions = predict_frames(potential, endless(), max_edges=60)
    for number in range(20):
        predicted = next(predictions)
        assert predicted.where == f"endless, frame {number}"
        assert read - number <= 60 // 12 + 2


def test_errors_name_the_frame(potential: Potential) -> None:
    """An element the model does not know, and atoms that overlap, are told with file and frame, before computing."""
    good = Frame(bulk("Cu", "fcc", a=3.6), "a.extxyz, frame 0")
    with pytest.raises(UnsupportedElementError, match=r"a\.extxyz, frame 1.*Fe.*knows: Cu"):
        list(predict_frames(potential, [good, Frame(bulk("Fe"), "a.extxyz, frame 1")]))
    twins = Atoms("Cu2", positions=np.zeros((2, 3)))
    with pytest.raises(GeometryError, match=r"a\.extxyz, frame 1.*atoms 0 and 1"):
        list(predict_frames(potential, [good, Frame(twins, "a.extxyz, frame 1")]))


def test_input_is_left_alone(potential: Potential) -> None:
    """The structure that was given is not changed, and the result is another object."""
    atoms = bulk("Cu", "fcc", a=3.6, cubic=True)
    before = atoms.copy()
    (predicted,) = predict_frames(potential, [Frame(atoms, "x")])
    assert atoms == before and atoms.calc is None and predicted.atoms is not atoms


def test_pressure_is_the_volume_derivative_of_the_energy(potential: Potential) -> None:
    """p = −dE/dV, in GPa, by central differences over the volume."""
    torch.manual_seed(0)
    crystal = bulk("Cu", "fcc", a=3.6, cubic=True)
    energies, step = [], 2e-5
    for factor in (1 - step, 1 + step):
        scaled = crystal.copy()
        scaled.set_cell(crystal.cell * factor, scale_atoms=True)
        (predicted,) = predict_frames(potential, [Frame(scaled, "x")])
        energies.append((scaled.get_volume(), row(predicted).energy_eV))
    (v0, e0), (v1, e1) = energies
    (predicted,) = predict_frames(potential, [Frame(crystal, "x")])
    assert row(predicted).pressure_GPa == pytest.approx(-(e1 - e0) / (v1 - v0) * 160.21766208, rel=1e-5)
