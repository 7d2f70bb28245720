"""Fine-tuning: new elements, references of another level of theory, replay of old data, frozen parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from ase.data import chemical_symbols
from numpy.typing import NDArray
from torch import Tensor

from mlanet.checkpoint import load_model, model_path
from mlanet.data.dataset import load_samples
from mlanet.data.fit import Table, closest_pairs, fitted_energies, most_crowded, walls
from mlanet.data.samples import Sample
from mlanet.errors import ConfigError
from mlanet.inference import predict
from mlanet.potential import Potential
from mlanet.statistics import Statistics
from mlanet.training.config import TrainConfig
from mlanet.training.sets import require_known


def extended(old: Potential, samples: Sequence[Sample]) -> tuple[Potential, list[str]]:
    """The same potential that also knows the elements of the samples, with remarks; what it knew stays as it was.

    A new element starts as a copy of its nearest relative in the periodic table, with reference 0. Pairs of atoms that
    are nearer in the samples than before move the wall of `repulsion: zbl` inwards.
    """
    present = {int(z) for sample in samples for z in sample.graph.numbers.unique().tolist()}
    fresh = sorted(present - set(old.species))
    species = tuple(sorted({*old.species, *fresh}))
    relative = {z: z if z in old.species else _relative(z, old.species) for z in species}
    rows = [old.species.index(relative[z]) for z in species]
    closest = _closest(old.statistics, species, samples)
    wall = _wall(old.statistics, species, samples, closest)
    statistics = dataclasses.replace(
        old.statistics,
        species=species,
        references=tuple(
            old.statistics.references[r] if z in old.species else 0.0 for z, r in zip(species, rows, strict=True)
        ),
        scale=tuple(old.statistics.scale[r] for r in rows),
        closest=closest,
        wall=wall,
        crowding=_crowding(old.statistics, species, samples, wall),
        references_from="" if fresh else old.statistics.references_from,
    )
    new = Potential.build(old.model.config, statistics).to(dtype=old.dtype)
    source = old.state_dict()
    with torch.no_grad():
        for name, target in new.state_dict().items():
            target.copy_(_rows(source[name], target, rows))
    remarks = [f"{chemical_symbols[z]} is new; it starts as a copy of {chemical_symbols[relative[z]]}" for z in fresh]
    return new, remarks


def _rows(source: Tensor, target: Tensor, rows: list[int]) -> Tensor:
    """As it is, or, where there is one row per element, the rows of the relatives."""
    return source if source.shape == target.shape else source[rows]


def _relative(number: int, known: Sequence[int]) -> int:
    """The nearest known element: same group first, then row."""
    from pymatgen.core import Element

    def place(z: int) -> tuple[int, int]:
        element = Element.from_Z(z)
        return element.group, element.row

    group, row = place(number)
    return min(known, key=lambda z: (4 * abs(place(z)[0] - group) + abs(place(z)[1] - row), abs(z - number)))


def _closest(old: Statistics, species: Sequence[int], samples: Sequence[Sample]) -> Table:
    """Smallest distances of all pairs in the old data and in the samples; 0 where neither has the pair."""
    if not old.closest:
        return ()
    before = np.zeros((len(species), len(species)))
    place = [list(species).index(z) for z in old.species]
    before[np.ix_(place, place)] = old.closest
    now = np.array(closest_pairs(samples, species))
    nearest = np.minimum(np.where(before > 0, before, np.inf), np.where(now > 0, now, np.inf))
    return tuple(map(tuple, np.where(np.isfinite(nearest), nearest, 0.0).tolist()))


def _wall(old: Statistics, species: Sequence[int], samples: Sequence[Sample], closest: Table) -> Table:
    """As in the old data, nearer where the samples are, and of new elements as in the samples."""
    if not old.wall:
        return ()
    wall = np.array(walls(samples, species, closest))
    place = [list(species).index(z) for z in old.species]
    now = np.array(closest_pairs(samples, species))[np.ix_(place, place)]
    wall[np.ix_(place, place)] = np.where(now > 0, np.minimum(now, old.wall), old.wall)
    return tuple(map(tuple, wall.tolist()))


def _crowding(old: Statistics, species: Sequence[int], samples: Sequence[Sample], wall: Table) -> tuple[float, ...]:
    """Largest crowding in the old data and in the samples; a wall that is nearer now lowers that of the old data."""
    if not old.crowding:
        return ()
    before = dict(zip(old.species, old.crowding, strict=True))
    now = most_crowded(samples, species, wall)
    return tuple(max(before.get(z, 0.0), rho) for z, rho in zip(species, now, strict=True))


def with_moved_references(old: Potential, samples: Sequence[Sample]) -> tuple[Potential, list[str]]:
    """The same network on the samples' level of theory: E₀ moves by what its energies are wrong, per element.

    Least squares (ridge) of the residuals in the compositions; elements that no labelled sample has stay as they are.
    """
    counts = np.array([[int((s.graph.numbers == z).sum()) for z in old.species] for s in samples], dtype=float)
    predictions = predict(old, [sample.graph for sample in samples])
    left = np.array([float(s.labels.energy[0] - p.energy[0]) for s, p in zip(samples, predictions, strict=True)])
    moves = moved(counts, left)
    references = tuple(float(e) for e in np.array(old.statistics.references) + moves)
    origin = "ridge" if moves.any() else old.statistics.references_from
    statistics = dataclasses.replace(old.statistics, references=references, references_from=origin)
    new = Potential.build(old.model.config, statistics)
    new = new.to(dtype=old.dtype)
    new.load_state_dict(old.state_dict())
    named = ", ".join(f"{chemical_symbols[z]} {m:+.3f}" for z, m in zip(old.species, moves, strict=True) if m)
    return new, [f"references moved to the new level of theory, eV: {named or 'none'}"]


def moved(counts: NDArray[np.float64], left: NDArray[np.float64]) -> NDArray[np.float64]:
    """eV per atom of each element that explain the energies `left` (S,) of compositions `counts` (S, Z)."""
    present = counts[np.isfinite(left)].sum(axis=0) > 0
    moves = np.zeros(counts.shape[1])
    if present.any():
        moves[present] = fitted_energies(counts[:, present], left)
    return moves


def replayed(config: TrainConfig, potential: Potential) -> list[Sample]:
    """Samples of the old data, their energies moved to the potential's references; none without `replay`."""
    if not config.replay:
        return []
    if config.start_from is None:
        raise ConfigError("replay: goes with start_from, whose data it repeats")
    old = load_model(model_path(config.start_from)).statistics
    keep = config.data.keep_unconverged
    samples = load_samples(list(config.replay), potential.cutoff, config.data.labels, keep_unconverged=keep)
    require_known(samples, potential.species)
    order = np.random.default_rng([config.data.seed, 2]).permutation(len(samples))
    chosen = [samples[index] for index in sorted(order[: config.replay_limit].tolist())]
    before = dict(zip(old.species, old.references, strict=True))
    now = dict(zip(potential.species, potential.statistics.references, strict=True))
    moves = torch.zeros(max(now) + 1, dtype=torch.float64)
    for z in before.keys() & now.keys():
        moves[z] = now[z] - before[z]
    return [
        sample._replace(
            labels=dataclasses.replace(sample.labels, energy=sample.labels.energy + moves[sample.graph.numbers].sum())
        )
        for sample in chosen
    ]


def freeze(potential: Potential, names: Sequence[str]) -> list[str]:
    """Take weights out of the training by the beginnings of their names, e.g. `embedding`, `layers.0`.

    Raises:
        ConfigError: a name that no weight begins with, or nothing left to train.
    """
    weights = {name.removeprefix("model."): parameter for name, parameter in potential.named_parameters()}
    for name in names:
        of_name = [weight for weight in weights if weight == name or weight.startswith(f"{name}.")]
        if not of_name:
            parts = sorted(
                {".".join(weight.split(".")[: 2 if weight.startswith("layers.") else 1]) for weight in weights}
            )
            raise ConfigError(f"freeze: no weights '{name}'; parts are {', '.join(parts)}")
        for file in of_name:
            weights[file].requires_grad_(False)
    left = sum(weight.numel() for weight in weights.values() if weight.requires_grad)
    if not left:
        raise ConfigError("freeze: nothing is left to train")
    return [f"frozen: {', '.join(names)}; {left} weights are trained"] if names else []
