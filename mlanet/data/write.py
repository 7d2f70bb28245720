"""Structures to files: what a calculator said is written as it said it, whatever holds the atoms."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_properties
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from ase.io.extxyz import write_extxyz

from mlanet.errors import DataError

_BREAKS = re.compile(r"[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]+")


def true_results(atoms: Atoms) -> dict[str, Any]:
    """Energy, forces, and where there is one stress of a structure, without what constraints add or take away.

    ASE's `atoms.get_forces()` sets the force on a fixed atom to zero, and others of its constraints change energy and
    stress: right for moving atoms, wrong for whatever is stored or compared.

    Returns:
        energy eV · forces (N, 3) eV/Å · stress (6,) eV/Å³ · dipole (3,) e Å and polarizability (3, 3) Å³ where the
        calculator, or `info` beside it, holds one.
    """
    results: dict[str, Any] = {
        "energy": float(atoms.get_potential_energy(apply_constraint=False)),
        "forces": atoms.get_forces(apply_constraint=False),
    }
    with contextlib.suppress(PropertyNotImplementedError):
        results["stress"] = atoms.get_stress(apply_constraint=False)
    held = getattr(atoms.calc, "results", None) or {}
    for name, place in (("dipole", held), ("polarizability", held | atoms.info)):
        if place.get(name) is not None:
            results[name] = np.asarray(place[name], dtype=np.float64)
    return results


def answered(atoms: Atoms) -> Atoms:
    """A copy with what its calculator said, all of it, and without the calculator, which may hold a whole model."""
    copy = atoms.copy()
    holder = Calculator()
    holder.results, holder.atoms = dict(atoms.calc.results), copy.copy()
    holder.implemented_properties = list(holder.results)
    copy.calc = holder
    return copy


def frame_text(atoms: Atoms, where: str = "structure") -> str:
    """One frame of an extxyz file: everything in `info` and `arrays`, and the results that the calculator holds.

    Line breaks within text in `info` become spaces, since a frame's comment is one line.

    Raises:
        DataError: something that extxyz cannot hold: a result that stands in info or arrays too, with another value,
            or text of atoms with spaces in it.
    """
    plain = _writable(atoms, where)
    text = io.StringIO()
    try:
        write_extxyz(text, [plain])
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{where}: cannot be written as extxyz: {error}") from None
    return text.getvalue()


def write_one(path: Path, atoms: Atoms, kind: str) -> None:
    """One structure in a format of `mlanet.data.formats.BARE`, or of ASE's trajectories."""
    write(path, atoms, format=kind)


def _writable(atoms: Atoms, where: str) -> Atoms:
    """A copy that ASE's writer of extxyz neither refuses nor cuts."""
    plain = atoms.copy()
    results = dict(getattr(atoms.calc, "results", None) or {})
    for place in (plain.info, plain.arrays):
        for name in [name for name in place if name in results and name in all_properties]:
            if not _same(place[name], results[name]):
                raise DataError(f"{where}: '{name}' stands there twice, with another value in the calculator's results")
            del place[name]
    plain.info = {_BREAKS.sub(" ", str(name)): _one_line(value) for name, value in plain.info.items()}
    for name, array in plain.arrays.items():
        if array.dtype.kind in "OSU" and any(len(str(value).split()) != 1 for value in array.ravel()):
            raise DataError(
                f"{where}: '{name}' of the atoms is text with spaces or nothing in it, which no column holds"
            )
        if array.ndim > 2:
            plain.arrays[name] = array.reshape(len(plain), -1)
    if results:
        plain.calc = SinglePointCalculator(plain, **{name: results[name] for name in results if name in all_properties})
    return plain


def _one_line(value: Any) -> Any:
    """Text on one line; arrays within mappings and lists as lists, which JSON has."""
    if isinstance(value, str):
        return _BREAKS.sub(" ", value)
    if isinstance(value, Mapping):
        return {str(name): _one_line(_listed(inner)) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_one_line(_listed(inner)) for inner in value]
    return value


def _listed(value: Any) -> Any:
    """An array or number of numpy as Python's."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _same(one: Any, other: Any) -> bool:
    """Whether two values are equal numbers."""
    try:
        return bool(np.allclose(one, other, rtol=1e-9, atol=1e-9, equal_nan=True))
    except (TypeError, ValueError):
        return False
