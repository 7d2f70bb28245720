"""The potential a run begins with: drawn anew, or taken over from a trained model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from mlanet.checkpoint import load_model, model_path
from mlanet.config import to_data
from mlanet.data.fit import bonded_shifts, fit_statistics
from mlanet.data.samples import Sample
from mlanet.data.sources import energy_key, sources_of
from mlanet.errors import CheckpointError, ConfigError, MissingLabelError
from mlanet.potential import Potential
from mlanet.training.config import TrainConfig, model_config
from mlanet.training.sets import require_known
from mlanet.training.tune import extended, with_moved_references


def starting_cutoff(config: TrainConfig) -> float:
    """Å; known before any data are read."""
    base = None if config.start_from is None else load_model(model_path(config.start_from)).model.config
    return model_config(config, base).cutoff


def starting_potential(config: TrainConfig, samples: Sequence[Sample]) -> tuple[Potential, list[str]]:
    """A potential in training mode, of the run's dtype, with remarks for the user.

    Raises:
        CheckpointError: a model to start from that shares no weights with the configured one.
        UnsupportedElementError: data with elements that the model to start from does not know.
    """
    dtype = getattr(torch, config.run.dtype)
    torch.manual_seed(config.run.seed)
    if config.start_from is None:
        statistics, remarks = fit_statistics(samples, config.references)
        statistics = dataclasses.replace(statistics, energy_key=energy_key(samples))
        remarks += sources_of(samples).warnings
        potential = Potential.build(model_config(config), statistics)
        _require_learnable(potential, config, samples)
        _start_bonded(potential, samples)
        return potential.to(dtype=dtype).train(), remarks
    old = load_model(model_path(config.start_from))
    new: list[str] = []
    if config.new_elements:
        old, new = extended(old, samples)
    require_known(samples, old.species)
    if config.move_references:
        old, moved = with_moved_references(old, samples)
        new += moved
    kept = "scales are" if config.move_references else "references and scales are"
    statistics, remarks = old.statistics, [*new, f"{kept} those of the model to start from"]
    if not config.keep_statistics:
        statistics, remarks = fit_statistics(samples, config.references, old.species)
    if chosen := energy_key(samples):
        statistics = dataclasses.replace(statistics, energy_key=chosen)
    potential = Potential.build(model_config(config, old.model.config), statistics)
    remarks += sources_of(samples).warnings
    remarks += adopt(potential, old)
    _require_learnable(potential, config, samples)
    return potential.to(dtype=dtype).train(), remarks


def _require_learnable(potential: Potential, config: TrainConfig, samples: Sequence[Sample]) -> None:
    """Raise `ConfigError` where nothing weighs, `MissingLabelError` for an output that no structure has a label for."""
    if all(getattr(config.loss, quantity.name) == 0 for quantity in potential.quantities):
        names = ", ".join(f"loss.{quantity.name}" for quantity in potential.quantities)
        raise ConfigError(f"{names} are all 0: there is nothing to learn from")
    for quantity in potential.quantities:
        if not quantity.optional or getattr(config.loss, quantity.name) == 0:
            continue
        if not any(bool(getattr(sample.labels, quantity.name).isfinite().any()) for sample in samples):
            place = " of a structure that is periodic in no direction" if quantity.where == "open" else ""
            raise MissingLabelError(
                f"model.outputs has {quantity.name}, and no training structure a label for it{place}; name its key "
                f"with data.labels.{quantity.name}, leave it out of model.outputs, or do not train it: "
                f"loss.{quantity.name}: 0"
            )


def _start_bonded(potential: Potential, samples: Sequence[Sample]) -> None:
    """The cohesion of the elements from the training set, where the model has a place for it."""
    bonded = getattr(potential.model, "bonded", None)
    if bonded is not None:
        with torch.no_grad():
            bonded.shift.copy_(torch.from_numpy(bonded_shifts(samples, potential.statistics)))


def adopt(new: Potential, old: Potential) -> list[str]:
    """Copy the weights of `old` that `new` has too, and say which were left out.

    A direct-force model keeps directions to the end, a gradient model only scalars: there the weights of the scalars
    are the leading slice (degree 0 stands first), so the two share their energy exactly. The same holds between models
    with and without `outputs`, in both directions.
    """
    state, source = new.state_dict(), old.state_dict()
    mine, theirs = to_data(new.model.config), to_data(old.model.config)
    head_only = all(mine.get(key) == theirs.get(key) for key in (mine.keys() | theirs.keys()) - {"forces", "outputs"})
    taken, cut, part, fresh = 0, [], [], []
    for name, target in state.items():
        weights = source.get(name)
        if weights is not None and weights.shape == target.shape:
            target.copy_(weights)
        elif head_only and weights is not None and _leads(target, weights):
            target.copy_(weights[: len(target)])
            cut.append(name)
        elif head_only and weights is not None and _leads(weights, target):
            target[: len(weights)].copy_(weights)
            part.append(name)
        else:
            fresh.append(name)
            continue
        taken += 1
    if not taken or len(fresh) > len(state) / 2:
        raise CheckpointError(
            f"the model to start from shares {taken} of {len(state)} tensors with the configured one; "
            "irreps, layers and widths must be the same"
        )
    left = sorted(set(source) - set(state))
    remarks = [f"loaded {taken} of {len(state)} tensors of weights"]
    remarks += [f"of these only the scalars' part: {', '.join(cut)}"] if cut else []
    remarks += [f"of these newly drawn beyond the scalars: {', '.join(part)}"] if part else []
    remarks += [f"newly drawn: {', '.join(fresh)}"] if fresh else []
    remarks += [f"left out: {', '.join(left)}"] if left else []
    return remarks


def _leads(target: torch.Tensor, weights: torch.Tensor) -> bool:
    """Whether `target` is as large as the first rows of `weights`."""
    return 0 < target.dim() == weights.dim() and weights.shape[1:] == target.shape[1:] and len(weights) > len(target)
