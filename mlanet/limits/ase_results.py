"""An assessment in the words of ASE and of extxyz."""

from __future__ import annotations

from typing import Any

from ase import Atoms
from ase.outputs import Properties, all_outputs

from mlanet.limits.assess import UNKNOWN, Assessment


class Exporting:
    """What a calculator that holds `assessed_results` hands to `Atoms.get_properties`: the results that ASE knows."""

    results: dict[str, Any]

    def export_properties(self) -> Properties:
        """Energy, forces, stress … of the last calculation; extrapolation and errors stay in `results`."""
        return Properties({name: value for name, value in self.results.items() if name in all_outputs})


def assessed_results(assessment: Assessment) -> dict[str, Any]:
    """For `Calculator.results`: extrapolation, and what standard errors are known; empty where nothing is."""
    word = {} if assessment.extrapolation == UNKNOWN else {"extrapolation": assessment.extrapolation}
    named = {
        "energy_std": assessment.energy_std,
        "forces_std": assessment.forces_std,
        "stress_std": assessment.stress_std,
    }
    return word | {name: it for name, it in named.items() if it is not None}


def with_assessment(atoms: Atoms, assessment: Assessment) -> None:
    """Write it into `info` and `arrays`, which an extxyz file keeps: extrapolation, its reason, and standard errors."""
    results = assessed_results(assessment)
    if assessment.energies_std is not None:
        results["energies_std"] = assessment.energies_std
    for name, value in results.items():
        place = atoms.arrays if name in ("forces_std", "energies_std") else atoms.info
        place[name] = value
    if assessment.reasons:
        atoms.info["extrapolation_reason"] = assessment.reason
