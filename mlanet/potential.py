"""`Potential`: the one place where energies become forces and stress, for every model.

Everything above this file (trainer, calculator, command line, laws) sees only a `Potential`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mlanet.ambient import usual_torch
from mlanet.data.atoms import to_graph
from mlanet.domain import Domain
from mlanet.errors import GeometryError
from mlanet.graph import AtomicGraph, ModelOutput, Prediction
from mlanet.models import MOST_NUMBERS, Model, ModelSettings, build_model
from mlanet.nn.alone import Alone
from mlanet.nn.electric import dipole_moment, polarizability
from mlanet.ops.digits import matrix_products
from mlanet.ops.dispatch import kernels_called
from mlanet.ops.long_range.fourier_sum import require_room
from mlanet.quantities import ALWAYS, BY_NAME, Quantity
from mlanet.statistics import Statistics
from mlanet.supported import ignored_charge, require_species


class Potential(nn.Module):
    """An interatomic potential: `AtomicGraph -> Prediction`.

    E_s = Σ_{i∈s} (E₀[Z_i] + scale[Z_i] e_i + b_i), summed in float64, with e_i the model's site energies and b_i its
    baseline, if it has one.
    Conservative models: F = −∂E/∂R and σ = (1/V) ∂E/∂ε with the symmetric strain ε applied to positions *and* cell,
    from one `autograd.grad`. Models with direct heads: F = mean(scale) f_i and σ = stress_scale · s.

    In training mode the prediction keeps its history (second derivatives for a force loss); in evaluation mode it is
    detached, and weights are constants. Cost of the derivatives: about one further forward pass.

    Args:
        model: a `Model`: graph -> site energies, and what it says of itself.
        statistics: references, scales and the species that the model knows.

    Attributes:
        domain: what is known of where it can be trusted, or None; saved with the weights (`mlanet.limits`).
        watched: whether predictions carry `features` even without a domain.
        answered_by: another way to compute answers in evaluation mode (`answer_by`), or None.
    """

    references: Tensor
    scale: Tensor
    species_index: Tensor

    def __init__(self, model: Model, statistics: Statistics) -> None:
        super().__init__()
        self.model = model
        self.statistics = statistics
        self.matmul = "float32"
        self.domain: Domain | None = None
        self.watched = False
        self.answered_by: Callable[[AtomicGraph, bool], Prediction] | None = None
        self._answered_for: list[tuple[Tensor, int, int]] = []
        self._spoke_of_charge = False
        index = torch.full((256,), -1, dtype=torch.int64)
        index[list(statistics.species)] = torch.arange(len(statistics.species))
        self.register_buffer("species_index", index, persistent=False)
        self.register_buffer("references", torch.empty(0), persistent=False)
        self.register_buffer("scale", torch.empty(0), persistent=False)
        self._restore_constants()

    @classmethod
    @usual_torch()
    def build(cls, config: ModelSettings, statistics: Statistics, most: int = MOST_NUMBERS) -> Potential:
        """An untrained potential; weights, at most so many, are drawn from torch's global generator."""
        return cls(build_model(config, statistics, most), statistics)

    graph_of = staticmethod(to_graph)
    """One structure, as this takes it."""

    @property
    def cutoff(self) -> float:
        """Å; graphs must hold every pair within it."""
        return self.model.cutoff

    @property
    def conservative(self) -> bool:
        """Whether forces are the gradient of the energy (needed by NVE, relaxation, phonons)."""
        return self.model.conservative

    @property
    def beyond_cutoff(self) -> bool:
        """Whether a long-range term reaches farther than neighbours do."""
        return self.model.config.beyond_cutoff

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """What it predicts, in the order of `mlanet.quantities`."""
        given = {*ALWAYS, *self.model.config.outputs}
        return tuple(quantity for name, quantity in BY_NAME.items() if name in given or quantity.of_teachers)

    @property
    def outputs(self) -> tuple[str, ...]:
        """What it predicts beside energy, forces and stress."""
        outputs: tuple[str, ...] = self.model.config.outputs
        return outputs

    @property
    def species(self) -> tuple[int, ...]:
        """Atomic numbers the potential knows."""
        return self.statistics.species

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the weights."""
        return next(self.model.parameters()).dtype

    @property
    def precision(self) -> str:
        """The same in a word."""
        return str(self.dtype).removeprefix("torch.")

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.species_index.device

    def forward(self, graph: AtomicGraph) -> Prediction:
        """Energy, forces and stress of a batch.

        Raises:
            UnsupportedElementError: an element the model does not know (checked on CPU graphs).
            GeometryError: a graph built with a smaller cutoff than the model's.
        """
        self.require_supported(graph)
        if graph.charge.device.type == "cpu":
            self.mention_ignored_charge(float(graph.charge[graph.charge.abs().argmax()]))
        with usual_torch(), matrix_products(self.matmul):
            here = graph.ordinary().to(self.device, self.dtype)
            if self.answered_by is not None and not self.training and self._unchanged():
                return self.answered_by(here, self.domain is not None or self.watched)
            return self.answer(here)

    def brought(self, graph: AtomicGraph) -> AtomicGraph:
        """The graph where the weights are."""
        return graph.to(self.device)

    def said_of(self, batch: AtomicGraph) -> Prediction:
        """As in evaluation mode, whatever the mode is, on the CPU and without history."""
        training = self.training
        self.eval()
        try:
            return self(batch).detach().map(Tensor.cpu)
        finally:
            self.train(training)

    def answer(self, graph: AtomicGraph) -> Prediction:
        """`forward` of a graph that is known to be supported and is where the weights are, in their precision."""
        answer = self._differentiated if self.conservative else self._direct
        if self.training:
            return answer(graph)
        with constants(self):
            return answer(graph).detach()

    def answer_by(self, other: Callable[[AtomicGraph, bool], Prediction]) -> Potential:
        """Itself, answered by something else in evaluation mode, until a weight changes, moves or may be trained.

        Args:
            other: takes a graph that is supported, where the weights are and in their precision, and whether
                `features` are wanted.
        """
        self._answered_for = [(parameter, *_state(parameter)) for parameter in self.parameters()]
        self.answered_by = other
        return self

    def _unchanged(self) -> bool:
        """Whether weights are what they were when something else began to answer for them; it is dropped if not."""
        if any(_state(one) != (place, version) for one, place, version in self._answered_for):
            self.answered_by = None
        return self.answered_by is not None

    def tabulated(self) -> Potential:
        """Itself, for inference only from now on, with its radial filters read from tables (docs/models/leignn.md).

        Raises:
            ConfigError: a model whose filters have no table form.
        """
        self.model.tabulate()
        self.answered_by = None
        return self.eval()

    def train(self, mode: bool = True) -> Potential:
        """Training or evaluation mode; what answers in the place of the weights is dropped where they may change."""
        if mode:
            self.answered_by = None
        super().train(mode)
        return self

    def load_state_dict(self, *arguments: Any, **named: Any) -> Any:
        """Other weights, which answer for themselves."""
        self.answered_by = None
        return super().load_state_dict(*arguments, **named)

    def with_kernels(self, kernels: str) -> Potential:
        """Itself, its messages computed in `plain` torch or by `fused` kernels (docs/models/mlanet.md).

        Raises:
            ConfigError: a model or configuration that has only one way.
        """
        self.model.use_kernels(kernels_called(kernels))
        self.answered_by = None
        return self

    def kernels_obstacle(self) -> str:
        """Why the model has no fused kernels where it is and in its precision; empty if it has."""
        return self.model.kernels_obstacle()

    def require_supported(self, graph: AtomicGraph) -> None:
        """Raise a typed error for a graph that this potential cannot answer."""
        if graph.cutoff < self.cutoff:
            raise GeometryError(f"the graph's cutoff {graph.cutoff} Å is below the model's {self.cutoff} Å")
        if graph.numbers.device.type == "cpu":
            require_species(graph.numbers, self.species)
            long_range = getattr(self.model, "long_range", None)
            if long_range is not None:
                smearing = long_range.settings.smearing
                require_room(graph.cell, graph.pbc, graph.positions.detach(), graph.structure, smearing)

    def mention_ignored_charge(self, charge: float, where: str = "a structure") -> None:
        """Warn, once, of a structure with a total charge (e) of which this model knows nothing."""
        config = self.model.config
        seen = getattr(config, "charge", "none") != "none" or getattr(config, "reads_total_charge", False)
        if charge == 0 or seen or self._spoke_of_charge:
            return
        self._spoke_of_charge = True
        warnings.warn(ignored_charge(charge, where), stacklevel=3)

    def _energies(self, graph: AtomicGraph, output: ModelOutput) -> tuple[Tensor, Tensor]:
        """Network output -> (S,) and (N,) eV, float64."""
        species = self.species_index[graph.numbers]
        atomic = output.atomic_energies.double() * self.scale[species] + self.references[species]
        if output.baseline is not None:
            atomic = atomic + output.baseline.double()
        total = torch.zeros(graph.n_structures, dtype=torch.float64, device=atomic.device)
        return total.index_add(0, graph.structure, atomic), atomic

    def _differentiated(self, graph: AtomicGraph) -> Prediction:
        """Forces and stress from one gradient of the summed energy with respect to positions and strain."""
        with torch.enable_grad():
            positions = graph.positions.detach().requires_grad_()
            strain = torch.zeros_like(graph.cell).requires_grad_()
            strained = deformed(dataclasses.replace(graph, positions=positions), strain)
            output, features = self._asked(strained)
            energy, atomic = self._energies(graph, output)
            gradient, virial = torch.autograd.grad(
                energy.sum(), (positions, strain), create_graph=self.training, materialize_grads=True
            )
            dipole, tensor = _response(output, strained)
        stress = stress_from_virial(virial, graph)
        forces = -gradient.to(graph.dtype)
        return Prediction(energy, forces, stress.to(graph.dtype), atomic, output.charges, dipole, tensor, features)

    def _direct(self, graph: AtomicGraph) -> Prediction:
        """Forces and stress from the model's own heads."""
        with torch.set_grad_enabled(self.training):
            output, features = self._asked(graph)
            energy, atomic = self._energies(graph, output)
            assert output.forces is not None
            # One factor for all elements: the head has taken out net force and torque already.
            scale = self.scale.mean().to(output.forces.dtype)
            stress = torch.full_like(graph.cell, torch.nan, dtype=graph.dtype)
            if output.stress is not None:
                stress = _where(has_stress(graph), output.stress * self.statistics.stress_scale)
            dipole, tensor = _response(output, graph)
        return Prediction(energy, output.forces * scale, stress, atomic, None, dipole, tensor, features)

    def _asked(self, graph: AtomicGraph) -> tuple[ModelOutput, Tensor | None]:
        """What the model answers, and where it is watched, what its last linear layer saw of each atom (N, C)."""
        last = self.model.last_linear() if self.domain is not None or self.watched else None
        if last is None:
            return self.model(graph), None
        seen: list[Tensor] = []
        hook = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
        try:
            output = self.model(graph)
        finally:
            hook.remove()
        features, n = seen[-1], graph.n_atoms
        alone = Alone.of(self.species_index[graph.numbers], len(self.species))
        if features.shape[0] == n + len(alone.species):
            return output, features[:n] - features[n:][alone.row]
        return output, features[:n]

    def _restore_constants(self) -> None:
        """References and scales in full float64 from the statistics, whatever type the weights have."""
        device = self.species_index.device
        self.references = torch.tensor(self.statistics.references, dtype=torch.float64, device=device)
        self.scale = torch.tensor(self.statistics.scale, dtype=torch.float64, device=device)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Potential:
        """`to`, `float`, `double`, `cuda`: move everything, but never round the references to float32."""
        self.answered_by = None
        with usual_torch():
            super()._apply(fn, recurse)
            self._restore_constants()
        return self


def _state(weight: Tensor) -> tuple[int, int]:
    """What changes with a tensor: where its numbers are, and how often they were written."""
    return weight.data_ptr(), 0 if weight.is_inference() else weight._version


@contextlib.contextmanager
def constants(module: nn.Module) -> Iterator[None]:
    """Weights without history meanwhile, so that nothing is kept for gradients in them that nobody can ask for.

    It would be a third of the memory that energy, forces and stress need.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    try:
        for weight in trained:
            weight.requires_grad_(False)
        yield
    finally:
        for weight in trained:
            weight.requires_grad_(True)


def deformed(graph: AtomicGraph, strain: Tensor) -> AtomicGraph:
    """R -> R (1 + ε), cell -> cell (1 + ε), with the symmetric part ε of `strain` (S, 3, 3)."""
    symmetric = 0.5 * (strain + strain.transpose(1, 2))
    if graph.n_structures == 1:
        moved = graph.positions @ symmetric[0]
    else:
        moved = torch.einsum("na,nab->nb", graph.positions, symmetric[graph.structure])
    positions = graph.positions + moved
    return dataclasses.replace(graph, positions=positions, cell=graph.cell + graph.cell @ symmetric)


def stress_from_virial(virial: Tensor, graph: AtomicGraph) -> Tensor:
    """σ = (1/V) ∂E/∂ε, (S, 3, 3) eV/Å³, with V of the cell as given; NaN without a periodic direction or a volume."""
    volume = graph.volume()
    defined = _has_stress(graph, volume)
    safe = torch.where(volume > 0, volume, torch.ones_like(volume))
    return _where(defined, virial / safe[:, None, None])


def has_stress(graph: AtomicGraph) -> Tensor:
    """(S,) bool: whether stress has a meaning, with a periodic direction and a volume."""
    return _has_stress(graph, graph.volume())


def _has_stress(graph: AtomicGraph, volume: Tensor) -> Tensor:
    return graph.pbc.any(dim=1) & (volume > 0)


def _response(output: ModelOutput, graph: AtomicGraph) -> tuple[Tensor | None, Tensor | None]:
    """Dipole (S, 3) e Å and polarizability (S, 3, 3) Å³ of structures, where the model gives those of atoms."""
    dipole = None if output.dipoles is None else dipole_moment(output.dipoles, output.charges, graph)
    return dipole, None if output.polarizabilities is None else polarizability(output.polarizabilities, graph)


def defined(quantity: Quantity, graph: AtomicGraph) -> Tensor:
    """(S,) bool: whether a quantity has a meaning for a structure."""
    if quantity.where == "periodic":
        return has_stress(graph)
    if quantity.where == "open":
        return ~graph.pbc.any(dim=1)
    return torch.ones_like(graph.pbc[:, 0])


def _where(defined: Tensor, stress: Tensor) -> Tensor:
    """NaN for structures in which stress has no meaning."""
    return torch.where(defined[:, None, None], stress, torch.nan)


def unsound(weights: Mapping[str, Tensor]) -> str:
    """What keeps tensors from being the weights of a model: NaN, infinity, no or several precisions; empty if nothing.

    >>> unsound({"a": torch.tensor([1.0, torch.nan])})
    "weight 'a' holds NaN or infinity"
    """
    types = {str(weight.dtype).removeprefix("torch.") for weight in weights.values()}
    if len(types) != 1 or not types <= {"float16", "bfloat16", "float32", "float64"}:
        return f"weights are of type {', '.join(sorted(types)) or 'none'}, expected one floating-point type"
    for name, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            return f"weight '{name}' holds NaN or infinity"
    return ""
