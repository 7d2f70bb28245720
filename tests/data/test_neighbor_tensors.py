"""Lists made elsewhere are those of the CPU, or are not used."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, graphene, molecule

from mlanet.data import neighbor_tensors as module
from mlanet.data.atoms import to_graph
from mlanet.data.neighbor_tensors import FROM_ATOMS, Pairs, neighbor_tensors, search
from mlanet.data.neighbors import neighbor_list
from mlanet.profiling.systems import system

CPU = torch.device("cpu")


def skewed() -> Atoms:
    atoms = bulk("Si", "diamond", a=5.43)
    atoms.set_cell(np.array([[1, 0, 0], [9, 1, 0], [-7, 4, 1]]) @ atoms.cell.array)
    atoms.rattle(0.1, seed=1)
    return atoms


def far_outside() -> Atoms:
    atoms = system("NaCl:64")
    atoms.positions[::3] += 40.0
    return atoms


STRUCTURES: dict[str, Callable[[], Atoms]] = {
    "oxide": lambda: system("LiCoO2:96"),
    "one atom, many images": lambda: bulk("Cu"),
    "skewed": skewed,
    "not wrapped": far_outside,
    "layer": lambda: graphene(size=(2, 2, 1), vacuum=6.0),
    "molecule": lambda: molecule("C6H6"),
    "lone atom": lambda: Atoms("Cu"),
}


def given(atoms: Atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    return atoms.positions, atoms.cell.array, atoms.pbc, 4.5


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> dict[torch.device, bool]:
    """No device has been asked before."""
    monkeypatch.setattr(module, "_trusted", {})
    return module._trusted


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_search_on_tensors_gives_the_same_list(name: str) -> None:
    """Pair by pair and in the same order; here on tensors of the CPU, through the same code as on a GPU."""
    atoms = STRUCTURES[name]()
    for one, other in zip(search(*given(atoms), CPU), neighbor_list(*given(atoms)), strict=True):
        assert one.dtype == torch.int64
        np.testing.assert_array_equal(one.numpy(), other)


def test_a_list_that_agrees_is_trusted_after_one_comparison(
    fresh: dict[torch.device, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pair at the very cutoff may be missing; after that the CPU is not asked again."""
    atoms = bulk("Cu", cubic=True) * (2, 2, 2)
    where = (atoms.positions, atoms.cell.array, atoms.pbc, 3.61 + 1e-8)

    def shorter(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float, device: torch.device) -> Pairs:
        return search(positions, cell, pbc, cutoff - 2e-8, device)

    found = module._checked(*where, CPU, shorter)
    assert found is not None and len(found[0]) < len(neighbor_list(*where).center) and fresh == {CPU: True}
    monkeypatch.setattr(module, "neighbor_list", lambda *_: pytest.fail("asked again"))
    assert module._checked(*where, CPU, search) is not None


def broken(*_: object) -> Pairs:
    raise RuntimeError("no NVRTC\nmore")


def incomplete(*arguments: object) -> Pairs:
    center, neighbor, shift = search(*arguments)  # type: ignore[arg-type]
    return center[1:], neighbor[1:], shift[1:]


@pytest.mark.parametrize(("finder", "why"), [(broken, "RuntimeError: no NVRTC;"), (incomplete, "it has other pairs")])
def test_a_list_that_fails_or_differs_is_not_used(
    finder: Callable[..., Pairs], why: str, fresh: dict[torch.device, bool]
) -> None:
    """Nor asked for again; a warning says why."""
    with pytest.warns(UserWarning, match=f"no neighbour list on cpu: {why}.*lists are made on the CPU"):
        assert module._checked(*given(system("LiCoO2:96")), CPU, finder) is None
    assert fresh == {CPU: False}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_makes_the_same_list(fresh: dict[torch.device, bool]) -> None:
    """Of a large rattled crystal and of a layer, without a warning."""
    device = torch.device("cuda", 0)
    for name in (f"LiCoO2:{2 * FROM_ATOMS}", f"bilayer:{2 * FROM_ATOMS}"):
        atoms = system(name)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = neighbor_tensors(*given(atoms), device)
        for one, other in zip(found, neighbor_list(*given(atoms)), strict=True):
            np.testing.assert_array_equal(one.cpu().numpy(), other)
        assert to_graph(atoms, 4.5, device=device).center.device.type == "cuda"
    assert fresh == {device: True}
