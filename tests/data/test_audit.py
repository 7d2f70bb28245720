"""The audit finds every injected fault and stays silent on clean sets."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.verlet import VelocityVerlet

from mlanet.data.audit import audit, audit_pair
from mlanet.data.dataset import sample_of
from mlanet.data.read import Frame
from mlanet.data.samples import Sample
from mlanet.errors import DataError
from mlanet.graph import Labels

KBAR, GPA, HARTREE = 1602.1766208, 160.21766208, 27.211386


def samples_of(frames: Sequence[Atoms], name: str = "set") -> list[Sample]:
    return [sample_of(Frame(atoms, f"{name}, frame {k}"), 4.5, group=name) for k, atoms in enumerate(frames)]


def emt(frames: Sequence[Atoms]) -> list[Sample]:
    """Frames labelled by EMT."""
    done = []
    for frame in frames:
        atoms = frame.copy()
        atoms.calc = EMT()
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        if atoms.pbc.all():
            results["stress"] = atoms.get_stress()
        atoms.calc = SinglePointCalculator(atoms, **results)
        done.append(atoms)
    return samples_of(done)


def trajectory(atoms: Atoms, temperature: float, n: int) -> list[Atoms]:
    """Every fifth step of EMT dynamics."""
    atoms = atoms.copy()
    atoms.calc = EMT()
    spread = np.sqrt(units.kB * temperature * atoms.get_masses())[:, None]
    atoms.set_momenta(spread * np.random.default_rng(0).normal(size=(len(atoms), 3)))
    dynamics = VelocityVerlet(atoms, 3.0 * units.fs)
    frames = []
    for _ in range(n):
        dynamics.run(5)
        frames.append(atoms.copy())
    return frames


def clean_sets(copper: list[Atoms]) -> dict[str, list[Sample]]:
    """Six sets without a fault: rattled and strained, dynamics, equation of state, slab, molecule, one frame."""
    slab = fcc111("Cu", (2, 2, 3), vacuum=8.0)
    cluster = Atoms(
        "Cu6", positions=2.5 * np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]])
    )
    cluster.positions /= 2**0.5
    scan = []
    for scale in np.linspace(0.93, 1.08, 16):
        atoms = bulk("Al", cubic=True)
        atoms.set_cell(atoms.cell.array * scale, scale_atoms=True)
        scan.append(atoms)
    return {
        "rattled and strained": samples_of(copper),
        "strained only": samples_of(copper[30:]),
        "dynamics": emt(trajectory(bulk("Cu", cubic=True) * (2, 2, 1), 900.0, 30)),
        "equation of state": emt(scan),
        "slab": emt(trajectory(slab, 600.0, 15)),
        "cluster": emt(trajectory(cluster, 400.0, 25)),
        "one frame": samples_of(copper[:1]),
    }


def test_clean_sets_raise_no_alarm(copper: list[Atoms]) -> None:
    """No warning for sets in which nothing is wrong."""
    for name, samples in clean_sets(copper).items():
        assert audit(samples).warnings == (), name


def relabelled(samples: Sequence[Sample], change: Callable[[Labels], Labels]) -> list[Sample]:
    return [sample._replace(labels=change(sample.labels)) for sample in samples]


def scaled(**factors: float) -> Callable[[list[Sample]], list[Sample]]:
    """A fault that multiplies labels."""

    def fault(samples: list[Sample]) -> list[Sample]:
        return relabelled(
            samples,
            lambda labels: dataclasses.replace(
                labels, **{name: getattr(labels, name) * factor for name, factor in factors.items()}
            ),
        )

    return fault


def shuffled_between_frames(samples: list[Sample]) -> list[Sample]:
    order = np.random.default_rng(0).permutation(len(samples))
    return [
        sample._replace(labels=dataclasses.replace(sample.labels, forces=samples[k].labels.forces))
        for sample, k in zip(samples, order, strict=True)
    ]


def shuffled_between_atoms(samples: list[Sample]) -> list[Sample]:
    generator = torch.Generator().manual_seed(0)
    return relabelled(
        samples,
        lambda labels: dataclasses.replace(
            labels, forces=labels.forces[torch.randperm(len(labels.forces), generator=generator)]
        ),
    )


def without_some_stress(samples: list[Sample]) -> list[Sample]:
    hidden = [dataclasses.replace(s.labels, stress=s.labels.stress * np.nan) for s in samples]
    return [s._replace(labels=h) if k % 4 == 0 else s for k, (s, h) in enumerate(zip(samples, hidden, strict=True))]


def without_forces(samples: list[Sample]) -> list[Sample]:
    return scaled(forces=float("nan"))(samples)


def velocities_as_forces(samples: list[Sample]) -> list[Sample]:
    generator = torch.Generator().manual_seed(1)
    return relabelled(
        samples,
        lambda labels: dataclasses.replace(
            labels, forces=torch.randn(labels.forces.shape, generator=generator).double()
        ),
    )


FAULTS: dict[str, tuple[Callable[[list[Sample]], list[Sample]], str]] = {
    "kbar": (scaled(stress=KBAR), "stress seems to be in kbar"),
    "VASP's kbar": (scaled(stress=-KBAR), "stress seems to be in kbar with the opposite sign"),
    "GPa": (scaled(stress=GPA), "stress seems to be in GPa"),
    "stress sign": (scaled(stress=-1), "stress has the opposite sign"),
    "hartree": (scaled(energy=1 / HARTREE), "energies seem to be in hartree"),
    "force sign": (scaled(forces=-1), "forces have the opposite sign"),
    "hartree/bohr": (scaled(forces=0.52917721 / HARTREE), "forces seem to be in hartree/bohr"),
    "kcal/mol": (scaled(energy=23.0605), "energies seem to be in kcal/mol"),
    "shuffled between frames": (shuffled_between_frames, "forces do not explain the energies"),
    "shuffled between atoms": (shuffled_between_atoms, "forces do not explain the energies"),
    "wrong key": (velocities_as_forces, "forces do not (explain|sum)"),
    "copies": (lambda samples: [*samples, *samples[5:9]], r"4 frame\(s\) repeat the geometry"),
    "missing stress": (without_some_stress, "mean stress: 15 of 60 frames are not labelled"),
    "missing forces": (without_forces, "force: no frame is labelled"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_found(copper: list[Atoms], name: str) -> None:
    """Each fault raises the warning that names it, and no second one blames a label that is right."""
    fault, expected = FAULTS[name]
    found = audit(fault(samples_of(copper))).warnings
    assert any(re.search(expected, text) for text in found), found
    assert len(found) <= 2


@pytest.mark.parametrize("name", ["force sign", "hartree", "kbar", "GPa", "stress sign", "VASP's kbar"])
def test_faults_are_found_where_every_cell_differs(copper: list[Atoms], name: str) -> None:
    """Without two frames in one cell, forces and stress are judged together."""
    fault, expected = FAULTS[name]
    found = audit(fault(samples_of(copper[30:]))).warnings
    assert any(expected in text for text in found), found


@pytest.mark.parametrize("name", ["kbar", "GPa"])
def test_stress_unit_is_found_at_a_fixed_cell(copper: list[Atoms], name: str) -> None:
    """At constant volume the size of the stress beside the forces gives its unit away."""
    fault, expected = FAULTS[name]
    assert any(expected in text for text in audit(fault(samples_of(copper[:30]))).warnings)


def test_stress_sign_is_found_at_a_fixed_cell(copper: list[Atoms]) -> None:
    """At constant volume the best pair potential of the forces tells the sign of the stress."""
    found = audit(scaled(stress=-1)(samples_of(copper[:30]))).warnings
    assert len(found) == 1 and "the stress has the opposite sign" in found[0] and "shear stress of 30" in found[0]


@pytest.mark.parametrize("fault", [shuffled_between_atoms, velocities_as_forces])
def test_shuffled_forces_of_unrelated_frames(fault: Callable[[list[Sample]], list[Sample]]) -> None:
    """Where no two frames are alike, forces that do not follow from the structures are found all the same."""
    frames = []
    for k in range(12):
        atoms = bulk(("Cu", "Al", "Ni", "Ag")[k % 4], cubic=True) * (1 + k % 2, 1, 1 + k // 6)
        atoms.rattle(0.15, seed=k)
        frames.append(atoms)
    samples = emt(frames)
    assert audit(samples).warnings == ()
    assert any(re.search("forces do not (follow|sum)", text) for text in audit(fault(samples)).warnings)


def test_shuffled_molecule() -> None:
    """Forces of another frame turn a molecule that is free: found even without neighbouring frames."""
    generator = np.random.default_rng(0)
    frames = []
    for k in range(8):
        atoms = molecule("CH3CH2OH")
        atoms.rotate(50 * k, (1, 2, 3 - k))
        atoms.rattle(0.1, rng=generator)
        atoms.calc = EMT()
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    samples = samples_of(frames)
    assert audit(samples).warnings == ()
    assert any("torque" in text for text in audit(shuffled_between_frames(samples)).warnings)


def test_copies_are_found_moved_turned_and_wrapped(copper: list[Atoms]) -> None:
    """A copy is a copy after translation and by whole lattice vectors, a molecule after rotation."""
    moved = copper[3].copy()
    moved.positions += [0.3, -8.0, 2.0]
    moved.wrap()
    found = audit_pair(samples_of(copper[:10]), samples_of([moved], "valid"))
    assert "leak: 1 of 1 validation frames" in found.warnings[0] and "set, frame 3" in found.warnings[0]
    water = molecule("H2O")
    turned = water.copy()
    turned.rotate(33, (1, 2, 3))
    assert audit_pair(samples_of([water]), samples_of([turned])).duplicates
    charged = turned.copy()
    charged.info["charge"] = 1
    assert not audit_pair(samples_of([water]), samples_of([charged])).duplicates


def test_fragments_beyond_the_cutoff_are_not_copies() -> None:
    """Frames that differ only in a distance beyond the cutoff are different, in vacuum and in a box."""
    for pbc in (False, True):
        frames = []
        for gap in (8.0, 9.0, 10.0):
            atoms = molecule("N2") + molecule("N2")
            atoms.positions[2:] += [gap, 0, 0]
            atoms.set_cell([40] * 3)
            atoms.pbc = pbc
            frames.append(atoms)
        assert audit(samples_of(frames)).duplicates == ()


def test_contradicting_copies(copper: list[Atoms]) -> None:
    """Equal geometries with different energies are told apart from mere copies."""
    samples = samples_of(copper[:3])
    other = scaled(energy=1.1)(samples)
    assert any("have different energies" in text for text in audit([*samples, *other]).warnings)


def test_pairs_of_sets(copper: list[Atoms]) -> None:
    """Disjoint sets raise nothing; shared frames, new elements and one-sided labels do."""
    train, valid = samples_of(copper[:40], "train"), samples_of(copper[40:], "valid")
    assert audit_pair(train, valid).warnings == ()
    assert "leak: 2 of 22" in audit_pair(train, [*valid, *train[:2]]).warnings[0]
    assert any("has not: H, O" in text for text in audit_pair(train, [*valid, *samples_of([molecule("H2O")])]).warnings)
    one_sided = audit_pair(train, scaled(stress=float("nan"))(valid)).warnings
    assert one_sided == ("mean stress: labelled in the training set only",)
    with pytest.raises(DataError, match="empty"):
        audit_pair(train, [])


def test_report(copper: list[Atoms]) -> None:
    """The report has the counts and ranges of the data, as text, rows and JSON."""
    samples = samples_of(copper)
    report = audit(samples)
    rows = {row[0]: row for row in report.rows()}
    assert rows["force"][1] == "60/60" and rows["mean stress"][1] == "60/60"
    largest = max(np.linalg.norm(atoms.calc.results["forces"], axis=1).max() for atoms in copper)
    assert float(rows["force"][4]) == pytest.approx(largest, rel=1e-4)
    text = report.render()
    assert "60 frames, 480 atoms (Ni 120, Cu 360), 1 group(s)" in text and text.endswith("no warnings")
    data = json.loads(json.dumps(report.to_data(), allow_nan=False))
    assert data["quantities"]["energy per atom"]["labelled"] == 60 and data["warnings"] == []


def test_sets_without_labels_or_edges() -> None:
    """Nothing to see is reported as such; isolated atoms need no forces."""
    report = audit(samples_of([Atoms("H", info={"REF_energy": -13.6})]))
    assert report.warnings == () and "-" in report.render()
    json.dumps(report.to_data(), allow_nan=False)
    bare = audit(samples_of([molecule("H2O")])).warnings
    assert bare == ("energy per atom: no frame is labelled", "force: no frame is labelled")
    with pytest.raises(DataError, match="nothing to audit"):
        audit([])
