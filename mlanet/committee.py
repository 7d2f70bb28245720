"""`CommitteeCalculator`: several models as one calculator of ASE, whose spread says how far they can be believed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from mlanet.calculator import MLANetCalculator
from mlanet.data.atoms import ase_results
from mlanet.errors import ConfigError
from mlanet.limits import UNKNOWN, Assessment, Exporting, assessed_results
from mlanet.limits.committee import mean, require_committee, spread
from mlanet.potential import Potential


class CommitteeCalculator(Exporting, Calculator):
    """The mean of K models, x̄ = Σ_k x_k / K, and their spread, s² = Σ_k (x_k − x̄)²/(K − 1).

    Results as those of `MLANetCalculator`; energy_std eV, forces_std (N,) eV/Å and stress_std eV/Å³ (both of a
    component) are the members' spread, extrapolation the gravest word of theirs. `members` holds their calculators.

    Args:
        models: two or more model files or potentials of the same elements, trained from different seeds.
        options: as `MLANetCalculator`, for every member: dtype, device, skin, …
    Raises:
        ConfigError: fewer than two models, the same one twice, other elements; and as `MLANetCalculator`.
    """

    name = "mlanet committee"
    assessment: Assessment = Assessment(UNKNOWN)
    """Of the last calculation, with the reasons."""

    def __init__(self, models: Sequence[Potential | str | os.PathLike[str]], **options: Any) -> None:
        super().__init__()
        if isinstance(models, str | os.PathLike | Potential):
            raise ConfigError("a committee needs a list of models; for one there is MLANetCalculator")
        self.members = [MLANetCalculator(model, **options) for model in models]
        names = [f"member {k}" if isinstance(one, Potential) else os.fspath(one) for k, one in enumerate(models)]
        require_committee([member.potential for member in self.members], names)
        self.implemented_properties = [
            name
            for name in self.members[0].implemented_properties
            if all(name in member.implemented_properties for member in self.members)
        ]

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What changed since the last calculation, charges in `atoms.info` included."""
        changes: list[str] = super().check_state(atoms, tol=tol)
        return changes or self.members[0].check_state(atoms, tol=tol)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Everything the models say of `atoms`; called by ASE. Raises as `MLANetCalculator.calculate`."""
        super().calculate(atoms, properties, system_changes)
        self.results = {}
        for member in self.members:
            member.calculate(atoms, properties, system_changes)
        said = [member.prediction for member in self.members if member.prediction is not None]
        self.assessment = spread(said, [member.assessment for member in self.members])
        self.results = ase_results(mean(said)) | assessed_results(self.assessment)
