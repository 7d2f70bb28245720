"""Sums of r⁻¹ and r⁻⁶ over all images: published constants, brute force, and invariances that the split must obey."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from torch import Tensor

import mlanet.ops.long_range.fourier_sum as fourier_sum
from mlanet.data.neighbors import neighbor_list
from mlanet.ops.long_range.power_law import PowerLaw

F64 = torch.float64
PERIODICITIES = {"crystal": (1, 1, 1), "slab": (1, 0, 1), "wire": (0, 1, 0), "molecule": (0, 0, 0)}


def whole(atoms: Atoms, charges: list[float] | np.ndarray, exponent: int, smearing: float) -> Tensor:
    """½ c_i Σ c_j r⁻ᵖ: the smooth sum plus the sharp rest from a neighbour list."""
    law = PowerLaw(exponent, smearing)
    c = torch.as_tensor(np.asarray(charges, dtype=float))
    pairs = neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, 9.5 * smearing)
    vectors = atoms.positions[pairs.neighbor] + pairs.shift @ atoms.cell.array - atoms.positions[pairs.center]
    r = torch.from_numpy(np.linalg.norm(vectors, axis=1))
    rest = 0.5 * c[pairs.center] * c[pairs.neighbor] * (r**-exponent - law.smooth(r))
    sharp = torch.zeros(len(c), dtype=F64).index_add(0, torch.from_numpy(pairs.center), rest)
    return sharp + smooth(atoms, c, [law])[:, 0]


def smooth(atoms: Atoms, charges: Tensor, laws: list[PowerLaw]) -> Tensor:
    columns = charges if charges.dim() == 2 else charges[:, None]
    return fourier_sum.smooth_sum(
        columns,
        torch.from_numpy(atoms.positions),
        torch.from_numpy(atoms.cell.array)[None],
        torch.tensor(atoms.pbc)[None],
        torch.zeros(len(atoms), dtype=torch.int64),
        laws,
    )


def irregular(kind: str, n: int = 7) -> tuple[Atoms, np.ndarray]:
    """Atoms in a skewed cell, and neutral charges."""
    rng = np.random.default_rng(3)
    cell = 6 * np.eye(3) + rng.random((3, 3))
    charges = rng.normal(size=n)
    return Atoms(["C"] * n, 5 * rng.random((n, 3)), cell=cell, pbc=PERIODICITIES[kind]), charges - charges.mean()


SHEET = Atoms("NaCl", [[0, 0, 0], [1, 0, 0]], cell=[[1, 1, 0], [1, -1, 0], [0, 0, 9]], pbc=[1, 1, 0])
WURTZITE = bulk("ZnS", "wurtzite", a=math.sqrt(8 / 3), c=8 / 3, u=3 / 8)


@pytest.mark.parametrize(
    ("atoms", "charges", "madelung"),
    [
        # Per pair of unit charges at the nearest distance 1; published to these digits.
        (bulk("NaCl", "rocksalt", a=2.0), [1, -1], 1.747564594633182),
        (bulk("CsCl", "cesiumchloride", a=2 / math.sqrt(3)), [1, -1], 1.762674773070991),
        (bulk("ZnS", "zincblende", a=4 / math.sqrt(3)), [1, -1], 1.638055053388789),
        (WURTZITE, [1, -1, 1, -1], 1.641321627372),
        (bulk("CaF2", "fluorite", a=4 / math.sqrt(3)), [2, -1, -1], 5.038784879),
        (Atoms("NaCl", [[0, 0, 0], [1, 0, 0]], cell=[2, 9, 9], pbc=[1, 0, 0]), [1, -1], 2 * math.log(2)),
        (SHEET, [1, -1], 1.6155426267),
    ],
    ids=["rocksalt", "cesium chloride", "zincblende", "wurtzite", "fluorite", "chain", "square sheet"],
)
def test_madelung_constants(atoms: Atoms, charges: list[float], madelung: float) -> None:
    """Crystals, a chain (2 ln 2) and a checkerboard sheet."""
    units = int(sum(1 for q in charges if q > 0))
    for smearing in (0.7, 1.0):
        energy = float(whole(atoms, charges, 1, smearing).sum()) / units
        assert -energy == pytest.approx(madelung, rel=2e-10)


@pytest.mark.parametrize(
    ("name", "size", "total"),
    [
        ("sc", 1.0, 8.401923974827),
        ("fcc", math.sqrt(2), 14.453921043744),
        ("bcc", 2 / math.sqrt(3), 12.253667867292),
        ("hcp", 1.0, 14.454897277841),
    ],
)
def test_lattice_sums_of_the_sixth_power(name: str, size: float, total: float) -> None:
    """Lennard-Jones constants A₆ at the nearest distance 1."""
    shape = {"c": math.sqrt(8 / 3)} if name == "hcp" else {}
    atoms = bulk("X", name, a=size, **shape)
    assert 2 * float(whole(atoms, [1.0] * len(atoms), 6, 0.9)[0]) == pytest.approx(total, rel=1e-11)


@pytest.mark.parametrize("kind", PERIODICITIES)
@pytest.mark.parametrize("exponent", [1, 6])
def test_the_split_does_not_matter(kind: str, exponent: int) -> None:
    """Smooth part + rest is the same for any smearing; each part is not."""
    atoms, charges = irregular(kind)
    sums = [whole(atoms, charges, exponent, smearing) for smearing in (0.7, 1.0, 1.6)]
    for other in sums[1:]:
        assert float((other - sums[0]).sum().abs()) < 1e-11 * float(sums[0].abs().max())


@pytest.mark.parametrize("meshed", [False, True], ids=["waves", "mesh"])
@pytest.mark.parametrize("smearing", [0.5, 1.0, 1.5])
def test_a_charged_cell_does_not_know_the_smearing(
    smearing: float, meshed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cubic lattice of ions in a uniform background: E = −ξ Q²/2L with ξ = 2.837297479, and P = E/3V, for any σ."""
    monkeypatch.setattr(fourier_sum, "MESH_FROM", {F64: 1 if meshed else 500})
    length, charge, law = 10.0, 2.0, PowerLaw(1, smearing)
    strain = torch.zeros((), dtype=F64, requires_grad=True)
    cell = length * torch.eye(3, dtype=F64)[None] * (1 + strain)
    place, columns = torch.full((1, 3), 0.3, dtype=F64) * (1 + strain), torch.full((1, 1), charge, dtype=F64)
    pbc, structure = torch.ones(1, 3, dtype=torch.bool), torch.zeros(1, dtype=torch.int64)
    energy = fourier_sum.smooth_sum(columns, place, cell, pbc, structure, [law]).sum()
    pressure = -torch.autograd.grad(energy, strain)[0] / (3 * length**3)
    exact = -2.837297479 * charge**2 / (2 * length)
    # The mesh errs by some 1e-5 of what an ion does to itself.
    tolerance = 2e-5 * charge**2 * law.at_zero if meshed else 1e-9
    assert float(energy.detach()) == pytest.approx(exact, abs=tolerance)
    assert float(pressure) == pytest.approx(exact / (3 * length**3), abs=tolerance / length**3)


def test_the_split_of_a_charged_crystal_does_not_matter() -> None:
    """Smooth part + rest of charges that do not add up to zero is the same for any smearing."""
    atoms, charges = irregular("crystal")
    sums = [float(whole(atoms, charges + 0.7, 1, smearing).sum()) for smearing in (0.7, 1.0, 1.6)]
    assert max(sums) - min(sums) < 1e-11 * max(map(abs, sums))


@pytest.mark.parametrize("kind", PERIODICITIES)
def test_sixth_power_against_brute_force(kind: str) -> None:
    """All images within 60 to 1000 Å, one by one; what is farther is below the tolerance."""
    atoms, charges = irregular(kind)
    reach = {"crystal": 9, "slab": 40, "wire": 150, "molecule": 0}[kind]
    grids = [np.arange(-reach, reach + 1) if periodic else np.zeros(1) for periodic in atoms.pbc]
    images = np.stack(np.meshgrid(*grids, indexing="ij"), -1).reshape(-1, 3) @ atoms.cell.array
    law, expected = PowerLaw(6, 1.0), np.zeros(len(atoms))
    for i in range(len(atoms)):
        r = np.linalg.norm(atoms.positions[None] + images[:, None] - atoms.positions[i], axis=2)
        here = r < 1e-9
        value = law.smooth(torch.from_numpy(np.where(here, 1.0, r))).numpy() * ~here
        expected[i] = 0.5 * charges[i] * (value @ charges).sum()
    found = smooth(atoms, torch.from_numpy(charges), [law])[:, 0].numpy()
    assert np.abs(found - expected).max() < {"crystal": 3e-8, "slab": 1e-9}.get(kind, 1e-11)


@pytest.mark.parametrize("kind", ["slab", "wire"])
def test_empty_space_and_the_choice_of_cell_change_nothing(kind: str) -> None:
    """Height of the cell, a skewed free vector, a larger cell, turned."""
    atoms, charges = irregular(kind)
    laws = [PowerLaw(1, 1.0), PowerLaw(6, 1.0)]
    c = torch.from_numpy(np.stack([charges, charges], 1))
    before = smooth(atoms, c, laws).sum(0)
    other = atoms.copy()
    cell = other.cell.array.copy()
    cell[~other.pbc] *= 3.7
    cell[~other.pbc] += 0.3 * cell[other.pbc][0]
    other.set_cell(cell)
    assert torch.allclose(smooth(other, c, laws).sum(0), before, rtol=0, atol=1e-12)
    double = atoms.repeat(np.where(atoms.pbc, 2, 1))
    n = len(double) // len(atoms)
    assert torch.allclose(smooth(double, c.repeat(n, 1), laws).sum(0), n * before, rtol=0, atol=1e-11)
    atoms.rotate(37, (1, 2, 3), rotate_cell=True)
    assert torch.allclose(smooth(atoms, c, laws).sum(0), before, rtol=0, atol=1e-12)


def test_two_sheets_attract_with_the_fourth_power() -> None:
    """E/A = −(π/2) n₁ n₂ C₆ / d⁴ for d far above the lattice constant."""
    spacing, energies = 2.0, []
    distances = (20.0, 40.0)
    for d in distances:
        atoms = Atoms("C2", [[0, 0, 0], [0.3, 0.9, d]], cell=[spacing, spacing, 1], pbc=[1, 1, 0])
        alone = smooth(atoms[:1], torch.ones(1, dtype=F64), [PowerLaw(6, 1.0)]).sum()
        energies.append(float(smooth(atoms, torch.ones(2, dtype=F64), [PowerLaw(6, 1.0)]).sum() - 2 * alone))
    for d, energy in zip(distances, energies, strict=True):
        assert energy * spacing**2 == pytest.approx(math.pi / 2 / (spacing**2) ** 2 / d**4 * spacing**4, rel=1e-7)
    assert math.log(energies[0] / energies[1], 2) == pytest.approx(4, abs=1e-6)


@pytest.mark.parametrize("kind", PERIODICITIES)
def test_derivatives_to_second_order(kind: str) -> None:
    """Positions, charges and lattice vectors, in float64."""
    atoms, _charges = irregular(kind, n=3)
    structure = torch.zeros(3, dtype=torch.int64)
    pbc = torch.tensor(atoms.pbc)[None]
    laws = [PowerLaw(1, 1.5), PowerLaw(6, 1.5)]

    def energy(positions: Tensor, cell: Tensor, c: Tensor) -> Tensor:
        return fourier_sum.smooth_sum(c, positions, cell, pbc, structure, laws).sum()

    inputs = (torch.from_numpy(atoms.positions), torch.from_numpy(atoms.cell.array)[None], torch.randn(3, 2, dtype=F64))
    inputs = tuple(one.clone().requires_grad_() for one in inputs)
    assert torch.autograd.gradcheck(energy, inputs)
    assert torch.autograd.gradgradcheck(energy, inputs)


def test_a_batch_is_its_members() -> None:
    """Crystals, slabs, wires and molecules of different sizes together."""
    parts = [irregular(kind, n) for kind, n in zip((*PERIODICITIES, "crystal"), (7, 3, 5, 4, 2), strict=True)]
    laws = [PowerLaw(1, 1.0), PowerLaw(6, 1.0)]
    columns = [torch.from_numpy(np.stack([q, q + 1], 1)) for _, q in parts]
    together = fourier_sum.smooth_sum(
        torch.cat(columns),
        torch.from_numpy(np.concatenate([a.positions for a, _ in parts])),
        torch.from_numpy(np.stack([a.cell.array for a, _ in parts])),
        torch.tensor(np.stack([a.pbc for a, _ in parts])),
        torch.arange(len(parts)).repeat_interleave(torch.tensor([len(a) for a, _ in parts])),
        laws,
    )
    alone = torch.cat([smooth(atoms, c, laws) for (atoms, _), c in zip(parts, columns, strict=True)])
    assert torch.allclose(together, alone, rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", PERIODICITIES)
def test_the_mesh_agrees_with_the_waves(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large structures go over a mesh; its splines cost some 1e-5 of the sums (measured 3e-5 at worst), and its
    derivatives belong to its values."""
    atoms, charges = irregular(kind, n=12)
    c = torch.from_numpy(np.stack([charges, charges], 1)).requires_grad_()
    laws = [PowerLaw(1, 1.0), PowerLaw(6, 1.0)]
    exact = smooth(atoms, c, laws)
    monkeypatch.setattr(fourier_sum, "MESH_FROM", {F64: 1})
    meshed = smooth(atoms, c, laws)
    scale = (0.5 * c.square() * torch.tensor([law.at_zero for law in laws])).amax(0)
    assert float(((meshed - exact).detach().abs() / scale.detach()).max()) < 1e-4
    positions = torch.from_numpy(atoms.positions[:3]).requires_grad_()
    cell = torch.from_numpy(atoms.cell.array)[None].requires_grad_()
    pbc, structure = torch.tensor(atoms.pbc)[None], torch.zeros(3, dtype=torch.int64)

    def energy(positions: Tensor, cell: Tensor) -> Tensor:
        return fourier_sum.smooth_sum(c.detach()[:3], positions, cell, pbc, structure, laws).sum()

    assert torch.autograd.gradcheck(energy, (positions, cell))


def test_a_smooth_law_is_its_gaussians() -> None:
    """φ₆ from its closed form, from its series near 0, and as a sum of Gaussians; its transform likewise."""
    law = PowerLaw(6, 1.3)
    r = torch.linspace(0.05, 12.0, 300, dtype=F64)
    rate, weight = (torch.from_numpy(one) for one in law.gaussians())
    assert torch.allclose(torch.exp(-rate * r[:, None] ** 2) @ weight, law.smooth(r), rtol=1e-9, atol=0)
    assert float(law.smooth(torch.tensor([1e-4], dtype=F64))) == pytest.approx(law.at_zero, rel=1e-7)
    k2 = torch.tensor([0.01, 0.3, 5.0], dtype=F64)
    expected = torch.exp(-k2[:, None] / (4 * rate)) @ (weight * (math.pi / rate) ** 1.5)
    assert torch.allclose(law.fourier(k2), expected, rtol=1e-9, atol=0)
