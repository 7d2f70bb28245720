"""Choosing how a potential computes, and making sure that the fast way says what the plain one says."""

from __future__ import annotations

import copy
import dataclasses
import warnings

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from mlanet.agreement import TOLERANCE, disagreement, excess, smallest_gradient
from mlanet.ambient import usual_torch
from mlanet.data.atoms import to_graph
from mlanet.errors import ConfigError, KernelError, MLANetError
from mlanet.graph import AtomicGraph, Prediction, batch_graphs
from mlanet.native.answers import NativeAnswers
from mlanet.native.export import obstacle as native_obstacle
from mlanet.ops.segment import segment_sum
from mlanet.potential import Potential

NATIVE = "native"
"""The kernels that are a whole step without torch, for inference."""

_compared: set[object] = set()
"""Configuration, precision and device of potentials whose fused kernels were compared in this process."""


@usual_torch()
def use_kernels(potential: Potential, kernels: str, inference: bool = False) -> Potential:
    """The potential with its kernels chosen; fast ones are compared with the plain ones before they are used.

    Compared are energy, forces, stress, and the gradients of a loss on all three with respect to every weight, on
    one small batch, once for each configuration. The first use on a machine compiles for some seconds.

    Args:
        potential: is changed.
        kernels: "plain", "fused", or "auto": fused on a CPU where model and machine have them, else plain, with a
            warning if kernels that the model has cannot be used. Those for GPUs have been proven in
            Triton's interpreter and never been timed, so they are used only if asked for. For inference there is
            "native" too, a whole step without torch (`mlanet.native`), and "auto" takes it on a CPU where it can.
        inference: whether the potential only answers, as it stands; compared are then its answers alone.
    Raises:
        ConfigError: kernels that the model has not, or that give other numbers.
        KernelError: they cannot be made here.
    """
    if kernels == NATIVE:
        return _native(potential)
    if kernels == "auto":
        if not inference or not _quietly_native(potential):
            _best(potential)
        return potential
    potential.with_kernels(kernels)
    if kernels == "fused":
        try:
            if obstacle := potential.kernels_obstacle():
                raise KernelError(f"kernels: fused: {obstacle}")
            _compare(potential, kernels)
        except MLANetError:
            potential.with_kernels("plain")
            raise
        except Exception as error:  # whatever a compiler or a driver raises
            potential.with_kernels("plain")
            raise KernelError(f"kernels: {kernels} fail here: {type(error).__name__}: {error}") from error
    return potential


def _native(potential: Potential) -> Potential:
    """Answered by the native engine."""
    obstacle = native_obstacle(potential) or ("" if potential.device.type == "cpu" else "the engine is for CPUs")
    if obstacle:
        raise ConfigError(f"kernels: {NATIVE}: {obstacle}")
    potential.with_kernels("plain")
    try:
        answers = NativeAnswers(potential)
        subject = (potential.model.config, potential.dtype, NATIVE)
        if subject not in _compared:
            _compare_answers(potential, answers)
            _compared.add(subject)
    except MLANetError:
        raise
    except Exception as error:  # whatever a compiler raises
        raise KernelError(f"kernels: {NATIVE} fails here: {type(error).__name__}: {error}") from error
    return potential.answer_by(answers)


def _quietly_native(potential: Potential) -> bool:
    """Whether the native engine answers now; a warning where it knows the model and cannot be used all the same.

    It has no gradients of weights, so whoever may want these gets the other fast kernels beneath it.
    """
    if potential.training or potential.device.type != "cpu" or native_obstacle(potential):
        return False
    if any(parameter.requires_grad for parameter in potential.parameters()):
        return False
    try:
        _native(potential)
    except MLANetError as error:
        warnings.warn(f"computing without the native engine: {error}", stacklevel=4)
        return False
    return True


def _compare_answers(potential: Potential, answers: NativeAnswers) -> None:
    """Raise if these and the plain answers differ."""
    graph = _sample(potential)
    native, plain = _results(potential, graph, answers(graph)), _results(potential, graph, potential(graph))
    pairs = [(name, other, one) for (name, one), (_, other) in zip(plain, native, strict=True)]
    least, tolerance = smallest_gradient([one for name, one in plain if name != "energy"]), TOLERANCE[potential.dtype]
    apart = disagreement(pairs, tolerance, least)
    if apart and potential.dtype != torch.float64:
        exact = copy.deepcopy(potential).to(dtype=torch.float64).with_kernels("plain")
        right = _results(exact, graph, exact(graph.to(dtype=torch.float64)))
        apart = excess(pairs, [one for _, one in right], tolerance, least)
    if apart:
        raise ConfigError(
            f"kernels: {NATIVE} gives other numbers than plain: {apart}. Please report this, and use plain"
        )


def native_differences(potential: Potential) -> dict[str, float]:
    """By how much answers of the native engine and of plain torch differ on one small batch, in units with a name.

    Args:
        potential: on the CPU, of a model that the engine knows; not changed.
    Raises:
        KernelError: the engine cannot be compiled here.
    """
    graph = _sample(potential)
    native, plain = NativeAnswers(potential)(graph), potential(graph)
    atoms = torch.bincount(graph.structure, minlength=graph.n_structures)
    return {
        "compared_atoms": graph.n_atoms,
        "energy_difference_eV_per_atom": float(((native.energy - plain.energy).abs() / atoms).max()),
        "force_difference_eV_per_A": float((native.forces - plain.forces).abs().max()),
        "largest_force_eV_per_A": float(plain.forces.abs().max()),
    }


def _results(potential: Potential, graph: AtomicGraph, prediction: Prediction) -> list[tuple[str, Tensor]]:
    """Energy above the references, forces and stress, and what else the potential predicts."""
    references = potential.references[potential.species_index[graph.numbers]]
    energy = prediction.energy - segment_sum(references, graph.structure, graph.n_structures)
    more = [
        (quantity.name, getattr(prediction, quantity.name).nan_to_num())
        for quantity in potential.quantities
        if quantity.optional
    ]
    return [("energy", energy), ("forces", prediction.forces), ("stress", prediction.stress.nan_to_num()), *more]


def _best(potential: Potential) -> Potential:
    """Fused where that is possible and known to be faster."""
    try:
        potential.with_kernels("fused")
    except ConfigError:
        return potential.with_kernels("plain")
    if potential.device.type != "cpu" or potential.kernels_obstacle():
        return potential.with_kernels("plain")
    try:
        return use_kernels(potential, "fused")
    except MLANetError as error:
        warnings.warn(f"computing with the slower, plain kernels: {error}", stacklevel=4)
        return potential


def _compare(potential: Potential, kernels: str) -> None:
    """Raise if these and the plain kernels differ."""
    trained = tuple(name for name, one in potential.named_parameters() if one.requires_grad)
    subject = (potential.model.config, potential.dtype, potential.device, trained, kernels)
    if subject in _compared:
        return
    fast, plain = _answers(potential), _answers(potential.with_kernels("plain"))
    potential.with_kernels(kernels)
    least = smallest_gradient([one for name, one in plain if name != "energy"])
    pairs = [(name, other, one) for (name, one), (_, other) in zip(plain, fast, strict=True)]
    tolerance = TOLERANCE[potential.dtype]
    apart = disagreement(pairs, tolerance, least)
    if apart and potential.dtype != torch.float64:
        exact = _answers(copy.deepcopy(potential).to(dtype=torch.float64).with_kernels("plain"))
        apart = excess(pairs, [one for _, one in exact], tolerance, least)
    if apart:
        raise ConfigError(
            f"kernels: {kernels} gives other numbers than plain: {apart}. Please report this, and use plain"
        )
    _compared.add(subject)


def _answers(potential: Potential) -> list[tuple[str, Tensor]]:
    """Results and gradients of a training step on a small batch; the weights stay as they are.

    The energy is that above the references, and the loss is linear, so that large constants hide nothing.
    """
    was_training = potential.training
    potential.train()
    try:
        with torch.enable_grad():
            graph = _sample(potential)
            results = _results(potential, graph, potential(graph))
            (_, energy), *others = results
            loss = sum((_some_of(one) for _, one in others), energy.sum())
            named = [(name, one) for name, one in potential.named_parameters() if one.requires_grad]
            weights = [one for _, one in named]
            slopes = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True) if weights else ()
    finally:
        potential.train(was_training)
    gradients = [(f"the gradient of {name}", slope) for (name, _), slope in zip(named, slopes, strict=True)]
    return [(name, one.detach()) for name, one in [*results, *gradients]]


def _sample(potential: Potential) -> AtomicGraph:
    """A shaken crystal whose atoms have more neighbours than a kernel takes at a time, and a molecule with few."""
    step = potential.cutoff / 2.6
    corners = step * np.indices((2, 2, 2)).reshape(3, -1).T
    corners = corners + 0.05 * step * np.cos(np.arange(corners.size)).reshape(corners.shape)
    elements = np.resize(potential.species, len(corners) + 3)
    crystal = Atoms(elements[:-3], corners, cell=2 * step * np.eye(3), pbc=True)
    molecule = Atoms(elements[-3:], corners[:3])
    batch = batch_graphs([to_graph(structure, potential.cutoff) for structure in (crystal, molecule)])
    batch = dataclasses.replace(batch, atomic_charges=torch.zeros(batch.n_atoms, dtype=batch.charge.dtype))
    return batch.to(potential.device, potential.dtype)


def _some_of(values: Tensor) -> Tensor:
    """A weighed sum whose weights have no symmetry."""
    weights = torch.cos(torch.arange(values.numel(), device=values.device, dtype=values.dtype))
    return (values.flatten() * weights).sum()
