"""Training and validation set of a run: read, divided by seed, checked, batched, known again by their content."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mlanet.data.dataset import load_samples
from mlanet.data.loader import Loader
from mlanet.data.samples import Sample
from mlanet.data.sources import follow
from mlanet.data.splits import group_split, random_split
from mlanet.errors import ConfigError, DataError, UnsupportedElementError
from mlanet.forecast import Forecast, MemoryLimit
from mlanet.potential import Potential
from mlanet.quantities import QUANTITIES
from mlanet.supported import require_species
from mlanet.training.config import DataConfig, TrainConfig


def load_split(data: DataConfig, cutoff: float) -> tuple[list[Sample], list[Sample]]:
    """Training and validation samples: from files of their own, or one set divided by seed.

    Isolated atoms carry reference energies and always stay in the training set. `train_limit` takes the first so many
    of the training set in an order that depends on the seed only, so smaller sets are parts of larger ones.

    Raises:
        DataError: nothing left to train on.
        ConfigError: a `train_limit` above what there is.
    """
    cache = None if data.cache is None else Path(data.cache)

    def loaded(files: tuple[str, ...]) -> list[Sample]:
        return load_samples(files, cutoff, data.labels, data.require, cache, keep_unconverged=data.keep_unconverged)

    samples = loaded(data.train)
    alone = [index for index, sample in enumerate(samples) if sample.graph.n_atoms == 1 and not sample.graph.n_edges]
    chosen = sorted(set(range(len(samples))) - set(alone))
    validation: list[Sample] = []
    if data.valid:
        validation = loaded(data.valid)
        validation = follow(validation, samples) if data.labels.energy is None else validation
    elif data.valid_fraction > 0:
        parts = _divided(data, [samples[index].group for index in chosen])
        validation = [samples[chosen[index]] for index in parts[1]]
        chosen = [chosen[index] for index in parts[0]]
    if not chosen and not alone:
        raise DataError(f"{', '.join(data.train)}: no structures left to train on after the split")
    if data.train_limit is not None:
        if data.train_limit > len(chosen):
            raise ConfigError(f"data.train_limit is {data.train_limit}, the training set has {len(chosen)} structures")
        order = np.random.default_rng([data.seed, 1]).permutation(len(chosen))
        chosen = [chosen[index] for index in order[: data.train_limit].tolist()]
    return [samples[index] for index in sorted([*alone, *chosen])], validation


def _divided(data: DataConfig, groups: list[str]) -> list[list[int]]:
    """Which samples are for training, and which are set aside."""
    fractions = [1 - data.valid_fraction, data.valid_fraction]
    if data.split == "group":
        return group_split(groups, fractions, data.seed)
    return random_split(len(groups), fractions, data.seed)


def require_known(samples: Sequence[Sample], species: tuple[int, ...]) -> None:
    """`UnsupportedElementError` naming file and frame, before the first step rather than after the first epoch."""
    for sample in samples:
        try:
            require_species(sample.graph.numbers, species)
        except UnsupportedElementError as error:
            raise UnsupportedElementError(f"{sample.where}: {error}") from None


def training_loader(
    config: TrainConfig, new: list[Sample], old: list[Sample], potential: Potential, law: Forecast | None = None
) -> Loader:
    """Shuffled batches under the budgets of edges, structures and memory; old samples are those of `replay`."""
    budget, limit = config.budget, None
    if budget.max_memory is not None:
        limit = MemoryLimit(law or Forecast(potential, training=True), budget.max_memory * 2**30)
        for sample in (*new, *old):
            limit.require(sample.graph, sample.where)
    return Loader(
        new,
        max_edges=budget.max_edges,
        seed=config.run.seed,
        max_structures=budget.max_structures,
        fits=limit,
        replay=old,
        replay_share=config.replay_share,
    )


def told_of_replay(loader: Loader) -> list[str]:
    """What an epoch holds, where old samples are replayed."""
    old = len(loader.samples) - loader.new
    return [f"an epoch holds {loader.new} new structures and {loader.drawn} of {old} old ones"] if old else []


def fingerprint(*sets: Sequence[Sample]) -> str:
    """sha256 over every structure and label, in order: a resumed run notices data that changed meanwhile."""
    sha = hashlib.sha256()
    for samples in sets:
        sha.update(f"{len(samples)};".encode())
        for sample in samples:
            graph, labels = sample.graph, sample.labels
            for tensor in (graph.positions, graph.numbers, graph.cell, graph.pbc, graph.charge):
                sha.update(tensor.contiguous().numpy().tobytes())
            for quantity in QUANTITIES:
                label = getattr(labels, quantity.name)
                if not quantity.optional or bool(label.isfinite().any()):
                    sha.update(label.contiguous().numpy().tobytes())
    return sha.hexdigest()
