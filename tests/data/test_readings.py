"""Faults that were missed or misnamed are found and named, on sets of thirty to sixty frames made here."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.units import Bohr, Hartree, Rydberg, kcal, kJ, mol

from mlanet.data.dataset import sample_of
from mlanet.data.energies import rank_note
from mlanet.data.read import Frame
from mlanet.data.samples import Sample
from mlanet.data.suspicions import suspicions

Fault = Callable[[list[Sample]], list[Sample]]
VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


def samples_of(frames: Sequence[Atoms]) -> list[Sample]:
    return [sample_of(Frame(atoms, f"set, frame {k}"), 4.5, group="set") for k, atoms in enumerate(frames)]


def relabelled(samples: Sequence[Sample], **changes: Callable[[Sample], torch.Tensor]) -> list[Sample]:
    """Samples with some of their labels replaced."""
    return [
        one._replace(labels=dataclasses.replace(one.labels, **{name: f(one) for name, f in changes.items()}))
        for one in samples
    ]


def in_units(energy: float = 1.0, force: float = 1.0, *, per_atom: bool = False) -> Fault:
    """Energies and forces as numbers of other units."""

    def fault(samples: list[Sample]) -> list[Sample]:
        return relabelled(
            samples,
            energy=lambda one: one.labels.energy / energy / (one.graph.n_atoms if per_atom else 1),
            forces=lambda one: one.labels.forces / force,
        )

    return fault


def in_order(places: Sequence[int]) -> Fault:
    """A stress whose six numbers stand in another order, read as if in ASE's."""

    def turned(one: Sample) -> torch.Tensor:
        stress = one.labels.stress
        out = torch.empty_like(stress)
        for (a, b), place in zip(VOIGT, places, strict=True):
            out[..., a, b] = out[..., b, a] = stress[..., VOIGT[place][0], VOIGT[place][1]]
        return out

    return lambda samples: relabelled(samples, stress=turned)


def shuffled_energies(samples: list[Sample]) -> list[Sample]:
    order = np.random.default_rng(0).permutation(len(samples))
    energies = [samples[k].labels.energy for k in order]
    return [
        one._replace(labels=dataclasses.replace(one.labels, energy=e)) for one, e in zip(samples, energies, strict=True)
    ]


def outliers(samples: list[Sample]) -> list[Sample]:
    wrong = (samples[7], samples[23])
    return relabelled(samples, energy=lambda one: one.labels.energy + (4.0 if any(one is w for w in wrong) else 0.0))


FAULTS: dict[str, tuple[Fault, str]] = {
    "forces in kcal": (in_units(force=kcal / mol), "^the forces seem to be in kcal/mol/Å \\("),
    "forces in Ry/bohr": (in_units(force=Rydberg / Bohr), "^the forces seem to be in Ry/bohr \\("),
    "energies in kJ": (in_units(energy=kJ / mol), "^the energies seem to be in kJ/mol \\("),
    "energies in Ry": (in_units(energy=Rydberg), "^the energies seem to be in Ry \\("),
    "both in kcal": (in_units(kcal / mol, kcal / mol), "energies .* in kcal/mol and the forces .* in kcal/mol/Å"),
    "both in atomic units": (
        in_units(Hartree, Hartree / Bohr),
        "energies .* in hartree and the forces .* hartree/bohr",
    ),
    "energies in kcal, forces in Ry/bohr": (
        in_units(kcal / mol, Rydberg / Bohr),
        "in kcal/mol and the forces .* Ry/bohr",
    ),
    "energies in kJ, forces in hartree/bohr": (
        in_units(kJ / mol, Hartree / Bohr),
        "kJ/mol and the forces .* hartree/bohr",
    ),
    "energies per atom": (in_units(per_atom=True), "^the energies seem to be per atom \\("),
    "energies per atom in hartree": (
        in_units(Hartree, per_atom=True),
        "^the energies seem to be in hartree and per atom",
    ),
    "VASP's order": (in_order((0, 1, 2, 5, 3, 4)), "another order, xx yy zz xy yz zx"),
    "LAMMPS' order": (in_order((0, 1, 2, 5, 4, 3)), "another order, xx yy zz xy xz yz"),
    "zeroed forces": (
        lambda samples: relabelled(samples, forces=lambda one: one.labels.forces * 0),
        "all exactly zero in 60 of 60 frames",
    ),
    "constant energies": (
        lambda samples: relabelled(samples, energy=lambda one: torch.full_like(one.labels.energy, -3.0)),
        "energies are constant",
    ),
    "energies of other frames": (shuffled_energies, "energies do not belong to these frames"),
    "outliers": (outliers, "2 energy outlier\\(s\\).*frame 7 .*frame 23"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_named(copper: list[Atoms], name: str) -> None:
    """The first thing said of a fault is what it is, with its evidence, and no other label is blamed."""
    fault, expected = FAULTS[name]
    found = suspicions(fault(samples_of(copper)))
    assert len(found) == 1 and re.search(expected, found[0]), found


def test_positions_in_bohr(copper: list[Atoms]) -> None:
    """Positions and cells in bohr are told by bonds of 1.9 times their length."""
    frames = []
    for atoms in copper[:30]:
        copy = atoms.copy()
        copy.set_cell(copy.cell.array / Bohr, scale_atoms=True)
        copy.calc = atoms.calc
        copy.calc.atoms = copy.copy()
        frames.append(copy)
    try:
        assert any("the positions seem to be in bohr" in text for text in suspicions(samples_of(frames)))
    finally:
        for atoms in copper[:30]:
            atoms.calc.atoms = atoms.copy()


def test_species_exchanged_in_some_frames(copper: list[Atoms]) -> None:
    """Forces tell in which frames two elements stand in each other's place."""
    samples = samples_of(copper)
    for k in range(0, 60, 3):
        numbers = samples[k].graph.numbers
        samples[k] = samples[k]._replace(graph=dataclasses.replace(samples[k].graph, numbers=28 + 29 - numbers))
    assert any(re.search("species Ni and Cu seem to be swapped in 20 of 60", text) for text in suspicions(samples))


def test_species_exchanged_in_molecules() -> None:
    """Water whose hydrogen is called oxygen has impossible bonds in every frame."""
    from ase.build import molecule

    frames = []
    for k in range(30):
        atoms = molecule("CH3CH2OH")
        atoms.rattle(0.03, seed=k)
        swapped = atoms.copy()
        swapped.numbers[atoms.numbers == 6], swapped.numbers[atoms.numbers == 1] = 1, 6
        frames += [swapped]
    assert any("species H and C seem to be swapped in 30 of 30" in text for text in suspicions(samples_of(frames)))


def test_a_few_frames_accuse_nobody(copper: list[Atoms]) -> None:
    """Six frames are too few to call anything wrong, whatever the labels say."""
    assert suspicions(in_units(energy=kJ / mol)(samples_of(copper[:6]))) == []


def test_rank_is_a_note(copper: list[Atoms]) -> None:
    """One composition of two elements determines one reference energy; that is a fact and no fault."""
    assert "determine only 1 of 2 reference energies (Ni Cu)" in rank_note(samples_of(copper))[0]
