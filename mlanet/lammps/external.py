"""A model as the potential of a LAMMPS that runs in this process, through `fix external … pf/callback`."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlanet import DEFAULT_MODEL
from mlanet.calculator import MLANetCalculator
from mlanet.errors import ConfigError, MLANetError, NotConservativeError
from mlanet.lammps.elements import as_numbers, of_labels, of_masses, require_known
from mlanet.limits import Watch
from mlanet.potential import Potential

FIX = "mlanet"
STOP = "mlanet_stop"
FAILED = "mlanet_failed"
"""Names of the fix that brings forces, of the one that ends a run after a failure, and of the variable it reads."""


def attach(
    lmp: Any,
    model: Potential | MLANetCalculator | str | os.PathLike[str] = DEFAULT_MODEL,
    elements: Sequence[str] | None = None,
    *,
    charge: float = 0.0,
    skin: float = 0.5,
    **how: Any,
) -> Attached:
    """Make a model the potential of an open LAMMPS with a box: energy, forces, virial and energies of atoms.

    It adds to what pair style there is; without one `pair_style zero` with the model's cutoff is set, for ghosts.
    Call it before other fixes that change forces (setforce, addforce), which act in their order.

    Args:
        lmp: a `lammps.lammps` of one process, units metal, with a simulation box.
        model: as `MLANetCalculator`, or one of them.
        elements: of the atom types in their order; by labelmap, else by masses, if not given.
        charge: e, of the whole system, for models that know of it.
        skin: Å, of the calculator's own neighbour list.
        how: what else `MLANetCalculator` takes: dtype, device, kernels, …
    Raises:
        ConfigError: other units, several processes, no box.
        DataError: elements that do not fit the types; `UnsupportedElementError`: ones that the model does not know.
        NotConservativeError: forces that are no gradient.
    """
    attached = Attached(lmp, _calculator(model, skin, how), elements, charge)
    for line in attached.commands():
        lmp.command(line)
    attached.connect()
    return attached


def _calculator(
    model: Potential | MLANetCalculator | str | os.PathLike[str], skin: float, how: dict[str, Any]
) -> MLANetCalculator:
    """A calculator whose forces are a gradient."""
    found = model if isinstance(model, MLANetCalculator) else MLANetCalculator(model, skin=skin, **how)
    if not found.potential.conservative:
        raise NotConservativeError(
            "the forces of this model are a direct head, not the gradient of its energy, and have no virial: LAMMPS "
            "would drift in energy and show a wrong pressure; use a model with `forces: gradient`"
        )
    return found


class Attached:
    """What LAMMPS calls at every step.

    - calculator · elements: symbols by atom type, known at the latest after the first step
    - steps: how often it was asked · watch: the gravest word of the model's limits
    - failure: why a run was stopped, or None; to go on from there, attach anew. A `run 0` returns all the same, with
      NaN for its energy: ask `require_sound`
    """

    def __init__(
        self, lmp: Any, calculator: MLANetCalculator, elements: Sequence[str] | None = None, charge: float = 0.0
    ) -> None:
        _require_usable(lmp)
        self.lmp, self.calculator, self.charge = lmp, calculator, charge
        self.steps, self.watch = 0, Watch()
        self.failure: BaseException | None = None
        self._numbers: NDArray[np.int64] | None = None
        if elements is not None:
            self._know(as_numbers(elements, lmp.extract_setting("ntypes")))
        elif (labelled := of_labels(lmp)) is not None:
            self._know(labelled)

    @property
    def elements(self) -> list[str]:
        """Symbols by atom type; empty before they are known."""
        from ase.data import chemical_symbols

        return [] if self._numbers is None else [chemical_symbols[z] for z in self._numbers]

    def commands(self) -> list[str]:
        """What LAMMPS has to be told before `connect`."""
        style = self.lmp.extract_global("pair_style")
        zero = [f"pair_style zero {float(self.calculator.potential.cutoff)!r}", "pair_coeff * *"]
        return [
            *(zero if style in (None, "none") else []),
            f"fix {FIX} all external pf/callback 1 1",
            f"variable {FAILED} internal 0.0",
            f"fix {STOP} all halt 1 v_{FAILED} != 0 error hard message no",
        ]

    def connect(self) -> None:
        """Hand the callback to the fix that `commands` made."""
        self.lmp.set_fix_external_callback(FIX, self._step, None)

    def require_sound(self) -> None:
        """Raise what made a step fail, if one did."""
        if self.failure is not None:
            raise self.failure

    def _know(self, numbers: Sequence[int]) -> None:
        require_known(numbers, self.calculator.potential.species)
        self._numbers = np.array(numbers)

    def _step(
        self,
        _: object,
        step: int,
        n_local: int,
        tag: NDArray[np.int64],
        positions: NDArray[np.float64],
        forces: NDArray[np.float64],
    ) -> None:
        """One answer; a failure leaves NaN, which nothing takes for one, and ends the run before output is written."""
        try:
            self._answer(n_local, tag, positions, forces)
            if text := self.watch.sees(self.calculator.assessment, f"step {step}"):
                self.lmp.error(0, f"mlanet: {text}")
        except BaseException as error:
            if isinstance(error, MLANetError) and n_local:
                error.args = (f"LAMMPS, step {step}, atoms counted from 0 in the order of their ids: {error}",)
            self.failure = error
            forces[:] = np.nan
            self.lmp.fix_external_set_energy_global(FIX, float("nan"))
            self.lmp.set_internal_variable(FAILED, 1.0)
            self.lmp.force_timeout()
            self.lmp.error(0, f"mlanet: {error or type(error).__name__}")  # a warning; graver ones end the process

    def _answer(
        self,
        n_local: int,
        tag: NDArray[np.int64],
        positions: NDArray[np.float64],
        forces: NDArray[np.float64],
    ) -> None:
        if n_local == 0:
            self.lmp.fix_external_set_energy_global(FIX, 0.0)
            self.lmp.fix_external_set_virial_global(FIX, [0.0] * 6)
            return
        order = np.argsort(tag, kind="stable")
        atoms = self._atoms(n_local, positions, order)
        self.calculator.calculate(atoms)
        results, library = self.calculator.results, self.lmp.lib
        self.steps += 1
        forces[order] = results["forces"]
        energies = np.empty(n_local)
        energies[order] = results["energies"]
        self.lmp.fix_external_set_energy_global(FIX, results["energy"])
        self.lmp.fix_external_set_virial_global(FIX, _virial(results, atoms).tolist())
        pointer = energies.ctypes.data_as(ctypes.POINTER(ctypes.c_double))
        library.lammps_fix_external_set_energy_peratom(self.lmp.lmp, FIX.encode(), pointer)
        rows = np.full((n_local, 6), np.nan)  # shares of atoms in the virial are not known here, and not zero
        starts = rows.ctypes.data + 48 * np.arange(n_local)
        library.lammps_fix_external_set_virial_peratom(self.lmp.lmp, FIX.encode(), _pointers(starts))

    def _atoms(self, n_local: int, positions: NDArray[np.float64], order: NDArray[np.int64]) -> Atoms:
        """The atoms in the order of their ids, unwrapped by their image flags so that none jumps over the box."""
        if self._numbers is None:
            self._know(of_masses(self.lmp, self.calculator.potential.species))
        assert self._numbers is not None
        low, high, xy, yz, xz, periodic, _ = self.lmp.extract_box()
        lengths = np.subtract(high, low)
        cell = np.array([[lengths[0], 0.0, 0.0], [xy, lengths[1], 0.0], [xz, yz, lengths[2]]])
        types = self.lmp.numpy.extract_atom("type")[:n_local][order]
        images = self.lmp.numpy.extract_atom("image")[:n_local][order]
        unwrapped = positions[order] - low + _flags(images) * np.array(periodic, dtype=bool) @ cell
        info = {"charge": self.charge} if self.charge else {}
        return Atoms(numbers=self._numbers[types - 1], positions=unwrapped, cell=cell, pbc=periodic, info=info)


def _require_usable(lmp: Any) -> None:
    """Raise `ConfigError` where a model cannot be the potential."""
    if not lmp.extract_setting("box_exist"):
        raise ConfigError("LAMMPS has no box yet; attach after create_box, read_data or read_restart")
    if (units := lmp.extract_global("units")) != "metal":
        raise ConfigError(f"LAMMPS has units {units}; models answer in eV and Å: write `units metal` first")
    if (ranks := lmp.extract_setting("world_size")) != 1:
        raise ConfigError(
            f"LAMMPS runs on {ranks} MPI ranks; through Python a model serves one. Build the pair style for more: "
            "mlanet lammps build"
        )
    if lmp.extract_setting("dimension") == 2:
        raise ConfigError("LAMMPS has dimension 2; models are of three dimensions: write `dimension 3`")


def _virial(results: dict[str, Any], atoms: Atoms) -> NDArray[np.float64]:
    """−∂E/∂ε in eV, in LAMMPS' order xx yy zz xy xz yz."""
    if "stress" in results:
        xx, yy, zz, yz, xz, xy = -results["stress"] * abs(np.linalg.det(atoms.cell.array))
    else:  # nothing is periodic, and −∂E/∂ε is Σ x f
        shares = atoms.positions.T @ results["forces"]
        xx, yy, zz = np.diag(shares)
        xy, xz, yz = (0.5 * (shares[a, b] + shares[b, a]) for a, b in ((0, 1), (0, 2), (1, 2)))
    return np.array([xx, yy, zz, xy, xz, yz])


def _flags(images: NDArray[np.int64]) -> NDArray[np.float64]:
    """(N, 3), how many boxes an atom has gone, from LAMMPS' packed numbers."""
    bits = 10 if images.dtype.itemsize == 4 else 21
    mask, middle = (1 << bits) - 1, 1 << (bits - 1)
    packed = images.astype(np.int64)
    return np.stack([((packed >> (bits * axis)) & mask) - middle for axis in range(3)], axis=1).astype(float)


def _pointers(starts: NDArray[np.int64]) -> Any:
    """Addresses as C's `double **`."""
    rows = (ctypes.POINTER(ctypes.c_double) * len(starts))()
    ctypes.memmove(rows, starts.astype(np.uintp).ctypes.data, 8 * len(starts))
    return rows
