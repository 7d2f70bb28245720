"""Curves of two atoms: the measures of curves that are known, and of packaged models."""

from __future__ import annotations

import numpy as np
import pytest

from mlanet.errors import ConfigError
from mlanet.execution import Execution
from mlanet.laws.diatomics import Curve, diatomic, pairs_of
from mlanet.workflows.model import open_model


def morse(r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    decay = np.exp(-1.5 * (r - 2.0))
    return 2 * (decay**2 - 2 * decay), 6 * (decay**2 - decay)


def test_a_well_has_none_of_the_faults_and_others_are_counted() -> None:
    """Morse: one flip, no jump, tortuosity 1, F = −dE/dr; ripples, a step and a wrong force show where they should."""
    r = np.arange(1.0, 8.0, 0.01)
    energy, force = morse(r)
    well = Curve("X-X", r, energy - energy[-1], force)
    assert well.flips == 1 and well.jump == 0 and well.tortuosity == pytest.approx(1) and well.deviation < 1e-6
    ripple = Curve("X-X", r, energy + 0.1 * np.sin(20 * r), force - 2 * np.cos(20 * r))
    assert ripple.flips > 20 and ripple.tortuosity > 1.2 and ripple.jump > 0 and ripple.deviation < 1e-3
    stepped = energy + 0.3 * (r > 4.005) * (r < 4.015)
    bump = Curve("X-X", r, stepped, force)
    assert bump.flips == 1 and bump.jump == pytest.approx(0.9, abs=0.05)
    assert Curve("X-X", r, energy, force + 0.05).deviation == pytest.approx(0.05, rel=1e-3)


def test_a_packaged_model() -> None:
    """Forces are the gradient, the wall repels, and the curve ends where the model sees no bond."""
    potential = open_model("elemental", Execution(dtype="float64"))
    (pair,) = pairs_of("Si", tuple(potential.species))
    curve = diatomic(potential, *pair)
    assert curve.pair == "Si-Si" and curve.deviation < 1e-3
    assert curve.force[0] > 0 and curve.energy[0] > 0 and curve.energy[-1] == 0 and curve.force[-1] == 0
    assert curve.tortuosity >= 1 - 1e-9 and curve.r[-1] > potential.cutoff


def test_words_for_pairs() -> None:
    assert pairs_of("Li-Si,Mo", (3, 14, 42)) == [(3, 14), (42, 42)]
    assert pairs_of("all", (3, 14)) == [(3, 3), (14, 14)]
    for text, words in (("Li-", "names no pair"), ("Li-Si-Mo", "names no pair"), ("Au", "not trained on Au")):
        with pytest.raises(ConfigError, match=words):
            pairs_of(text, (3, 14, 42))
