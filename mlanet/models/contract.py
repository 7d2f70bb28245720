"""What every model and its configuration are: the base classes, whose defaults suit a model that has no more to say.

Training, laws, sweep, checkpoints, kernels, profile and the command line ask for nothing beyond this.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import msgspec
from torch import nn

from mlanet.errors import ConfigError
from mlanet.graph import AtomicGraph, ModelOutput
from mlanet.ops.dispatch import PLAIN, Kernels
from mlanet.quantities import Output
from mlanet.statistics import Statistics


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="model"):
    """A configuration: what a YAML of the model may say. Its `tag` is the word behind `model:`."""

    free_l_max: ClassVar[bool] = False
    """Whether `with_l_max` gives another model, so that a sweep over degrees makes sense."""
    optimizer: ClassVar[Literal["adamw", "muon"]] = "adamw"
    """What trains it best, for `optimizer.kind: auto`."""

    @property
    def cutoff(self) -> float:
        """Å; a field of every configuration."""
        raise NotImplementedError(f"{type(self).__name__} needs a field 'cutoff'")

    @property
    def l_max(self) -> int:
        """Highest degree of the features; 0 where there are scalars only, or none."""
        return 0

    @property
    def conservative(self) -> bool:
        """False where forces are a direct head; a configuration without a key `forces` has their gradient."""
        return getattr(self, "forces", "gradient") == "gradient"

    @property
    def outputs(self) -> tuple[Output, ...]:
        """What it predicts beside energy, forces and stress; a field of configurations that may have more."""
        return ()

    @property
    def beyond_cutoff(self) -> bool:
        """Whether atoms feel each other at distances that no number of layers explains."""
        return False

    @property
    def broken_laws(self) -> frozenset[str]:
        """Names of the laws (`mlanet.laws`) that the model, or a switch of it, gives up."""
        return frozenset()

    def with_l_max(self, l_max: int) -> Self:
        """The same with features up to another degree; itself where the degree is fixed.

        Raises:
            ValueError: a degree that the model cannot have.
        """
        return self

    def with_channels(self, channels: int) -> Self:
        """The same with another number of features, where no key is called `channels`.

        Raises:
            ValueError: no features, or a number that cannot be.
        """
        raise ValueError("this model has no channels")

    def build(self, statistics: Statistics) -> Model:
        """The untrained model; weights are drawn from torch's global generator."""
        raise NotImplementedError(f"{type(self).__name__} needs a method 'build'")


class Model(nn.Module):
    """Graph -> site energies, and direct forces and stress where they are heads.

    Args:
        config: what it is built from, and rebuilt from when a file is read.
    """

    config: ModelSettings

    def __init__(self, config: ModelSettings) -> None:
        super().__init__()
        self.config = config
        self.kernels: Kernels = PLAIN

    def forward(self, graph: AtomicGraph) -> ModelOutput:
        """Site energies (N,), network units, without references."""
        raise NotImplementedError(f"{type(self).__name__} needs a method 'forward'")

    @property
    def cutoff(self) -> float:
        """Å; graphs hold every pair within it."""
        return self.config.cutoff

    @property
    def conservative(self) -> bool:
        """False where forces are a direct head."""
        return True

    def last_linear(self) -> nn.Linear | None:
        """The layer whose output is the site energies; it sees what the network makes of each atom, (N, C).

        Rows beyond the N atoms are lone atoms of each species. None: nothing of the kind (`mlanet.limits`).
        """
        return None

    def use_kernels(self, kernels: Kernels) -> None:
        """Choose how messages are computed; the numbers stay the same but for rounding.

        Raises:
            ConfigError: kernels that the model has not.
        """
        if kernels != PLAIN and (lacking := self.without_kernels()):
            raise ConfigError(f"kernels: {kernels}: {lacking}")
        self.kernels = kernels

    def without_kernels(self) -> str:
        """Why this model, wherever it is, is computed in plain torch only; empty if it may have kernels."""
        return f"{type(self).__name__} has one way to compute, {PLAIN}"

    def kernels_obstacle(self) -> str:
        """Why kernels do not serve this model where it is and in its precision; empty if they do."""
        return "the model has none"

    def tabulate(self) -> Model:
        """Itself with its radial filters read from tables from now on, for inference.

        Raises:
            ConfigError: filters that have no table form.
        """
        raise ConfigError(f"tabulated: {type(self).__name__} has no radial filters that a table could stand for")
