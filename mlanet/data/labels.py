"""Where reference values hide in an ASE structure, and what sign and shape they have there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np
from ase import Atoms
from ase.calculators.calculator import compare_atoms
from numpy.typing import NDArray

from mlanet.data.constrained_forces import without_projected
from mlanet.errors import DataError
from mlanet.quantities import QUANTITIES, Quantity

_WORDS = tuple(word for quantity in QUANTITIES for word in quantity.words)
_FORTRAN = re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[dD][-+]?\d+$")
_NOT_LABELS = {"numbers", "positions", "tags", "momenta", "masses", "initial_magmoms", "initial_charges"}


class LabelKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The names under which labels stand in the files; None (the default) means: search.

    The search takes `REF_energy`, `REF_forces`, `REF_stress`, `REF_virial(s)` and so on (any case) first, then the
    calculator's results, where ASE's readers put `energy`, `forces` and `stress`, then common aliases, all as in the
    rows of `mlanet.quantities`. A key may name an entry of info, of the per-atom arrays, of the calculator's results,
    or of an ASE database row's data.

    Stress is in eV/Å³ with tension positive, as 3 × 3, 9 numbers, or 6 in ASE's order xx yy zz yz xz xy. A key with
    "virial" in its name holds W in eV and becomes σ = −W / V.
    """

    energy: str | None = None
    """Total energy, eV."""
    forces: str | None = None
    """Forces, eV/Å."""
    stress: str | None = None
    """Stress, eV/Å³, tension positive; or a virial, eV, when the name says so."""
    dipole: str | None = None
    """Dipole moment of a structure that is periodic in no direction, e Å, from the origin of the positions."""
    polarizability: str | None = None
    """Polarizability, Å³, as 3 × 3, 9 numbers, or 6: xx yy zz yz xz xy."""
    atomic_energies: str | None = None
    """Energies of atoms, eV, as another potential divides its total among them."""
    charge: str | None = None
    """Total charge, e (an input of the model); searched under total_charge and charge."""
    atomic_charges: str | None = None
    """Per-atom charges, e (an input of the model); searched under atomic_charges and initial_charges."""


class Rival(NamedTuple):
    """Another entry that could have been the label, and where it differs most from what was read.

    - key: of the entry · read, other: the two numbers at the largest difference, in the label's unit
    """

    key: str
    read: float
    other: float


class Source(NamedTuple):
    """Where one label of one structure came from, and what was left aside."""

    quantity: str
    key: str
    rivals: tuple[Rival, ...] = ()
    """Entries under names that mean this quantity."""
    aside: tuple[str, ...] = ()
    """Entries whose names speak of this quantity without being known."""


class FoundLabels(NamedTuple):
    """Reference values of one structure, in units and shapes of `mlanet.quantities`; NaN = not labelled."""

    energy: float
    forces: NDArray[np.float64]
    stress: NDArray[np.float64]
    dipole: NDArray[np.float64]
    polarizability: NDArray[np.float64]
    atomic_energies: NDArray[np.float64]
    sources: tuple[Source, ...] = ()
    """One for each label that was found."""


def find_labels(atoms: Atoms, keys: LabelKeys, where: str) -> FoundLabels:
    """All labels of one structure, and where they came from; see `mlanet.data.atoms.to_labels`."""
    entries = _Entries(atoms, where)
    values: dict[str, Any] = {}
    sources = []
    for quantity in QUANTITIES:
        values[quantity.name] = np.full((len(atoms), *quantity.shape) if quantity.per_atom else quantity.shape, np.nan)
        key = getattr(keys, quantity.name)
        if (name := entries.name_of(quantity, key)) is None:
            continue
        try:
            numbers = entries.numbers(name, _sizes(quantity, atoms))
        except DataError:
            if quantity.optional and key is None:
                continue  # such as the size of a dipole moment: nobody has asked for it as a label
            raise
        value = values[quantity.name] = _value(quantity, numbers, name.key, atoms)
        if quantity.name == "forces":
            value = values["forces"] = without_projected(value, atoms, where)
        if np.isfinite(value).any():
            sources.append(_source(quantity, name, value, entries, atoms))
    return FoundLabels(**values | {"energy": float(values["energy"])}, sources=tuple(sources))


def _sizes(quantity: Quantity, atoms: Atoms) -> tuple[int, ...]:
    """How many numbers a label may have."""
    if quantity.symmetric:
        return 6, 9
    return (quantity.components * (len(atoms) if quantity.per_atom else 1),)


def _value(quantity: Quantity, numbers: NDArray[np.float64], key: str, atoms: Atoms) -> NDArray[np.float64]:
    """Numbers of an entry as the label they mean: (), (3,), (3, 3), or one of these per atom."""
    if quantity.name == "stress":
        return _stress(numbers, key, atoms)
    if quantity.symmetric:
        return _symmetric(numbers)
    if quantity.where == "open" and atoms.pbc.any():
        return np.full(quantity.shape, np.nan)
    return numbers.reshape((-1, *quantity.shape) if quantity.per_atom else quantity.shape)


def _source(quantity: Quantity, read: _Name, value: NDArray[np.float64], entries: _Entries, atoms: Atoms) -> Source:
    """The entry that was read, its rivals, and what else speaks of the quantity."""
    known = {*quantity.reference, *quantity.results, *quantity.aliases}
    rivals, aside = [], []
    for name in entries.values:
        lower = name.key.lower()
        speaks = lower in known or any(word in lower for word in quantity.words)
        if name == read or not speaks or (name.place == "arrays" and not quantity.per_atom):
            continue
        try:
            numbers = entries.numbers(name, _sizes(quantity, atoms))
        except DataError:
            continue
        other = _value(quantity, numbers, name.key, atoms)
        if lower not in known or not np.isfinite(other).any():
            aside.append(name.key)
            continue
        apart = np.nan_to_num(np.abs(other - value)).ravel()
        most = int(apart.argmax())
        rivals.append(Rival(name.key, float(value.ravel()[most]), float(other.ravel()[most])))
    return Source(quantity.name, read.key, tuple(rivals), tuple(aside))


def label_names(atoms: Atoms) -> set[str]:
    """Everything in a structure that could be a label, by name, for messages that say what *is* there."""
    names = set()
    for place, key, value in _items(atoms):
        if key in _NOT_LABELS and place == "arrays":
            continue
        if isinstance(value, int | float | np.ndarray | list | tuple) and not isinstance(value, bool):
            names.add(f"{place}:{key}" if place != "info" else key)
    return names


def require_numbers(atoms: Atoms, where: str) -> None:
    """Raise `DataError` for a label-like entry that was read as text, such as a Fortran `-1.5D0`.

    ASE keeps such a value as a string without a word; a training would lose the label, or fail far from the cause.
    """
    for _place, key, value in _items(atoms):
        text = value if isinstance(value, str) else None
        if isinstance(value, np.ndarray) and value.dtype.kind in "US":
            text = next((str(v) for v in value.ravel() if _FORTRAN.match(str(v))), None)
        if text is not None and any(_FORTRAN.match(word) for word in text.split()) and _speaks_of_a_label(key):
            raise DataError(
                f"{where}: '{key}' is the text '{text}', not a number; write Fortran's exponent D as E (e.g. -1.5E0)"
            )


def find_charge(atoms: Atoms, keys: LabelKeys, where: str) -> float:
    """Total charge in e, 0 where none is given."""
    entries = _Entries(atoms, where)
    if keys.charge is not None:
        name = entries.named(keys.charge)
        return 0.0 if name is None else _finite(entries.numbers(name, (1,))[0], keys.charge, where)
    for key in ("total_charge", "charge"):
        name = entries.named(key, places=("info",))
        if name is not None:
            return _finite(entries.numbers(name, (1,))[0], key, where)
    return 0.0


def find_atomic_charges(atoms: Atoms, keys: LabelKeys, where: str) -> NDArray[np.float64] | None:
    """(N,) per-atom charges in e, or None where none are given."""
    entries = _Entries(atoms, where)
    for key in (keys.atomic_charges,) if keys.atomic_charges is not None else ("atomic_charges", "initial_charges"):
        name = entries.named(key, places=("arrays", "results", "info", "data"))
        if name is not None:
            charges = entries.numbers(name, (len(atoms),))
            if not np.isfinite(charges).all():
                raise DataError(f"{where}: atomic charges '{key}' are not all finite")
            return charges
    return None


class _Name(NamedTuple):
    """Which entry of which place."""

    place: str
    key: str


class _Entries:
    """The named values of one structure, with lookups that raise errors naming file, frame and key."""

    def __init__(self, atoms: Atoms, where: str) -> None:
        self.where = where
        self.values = {_Name(place, key): value for place, key, value in _items(atoms)}
        self.lower = {_Name(name.place, name.key.lower()): name for name in reversed(self.values)}
        if any(name.place == "results" for name in self.values):
            _require_current(atoms, where)

    def name_of(self, quantity: Quantity, key: str | None) -> _Name | None:
        """The entry that holds a quantity: under the user's key, or by search."""
        if key is not None:
            return self.named(key)
        searches = (
            (quantity.reference, ("info", "arrays", "data")),
            (quantity.results, ("results",)),
            (quantity.aliases, ("info", "arrays", "data")),
        )
        for candidates, places in searches:
            for candidate in candidates:
                for place in places:
                    name = self.lower.get(_Name(place, candidate))
                    if name is not None and self.values[name] is not None:
                        return name
        return None

    def named(self, key: str, places: tuple[str, ...] = ("info", "arrays", "results", "data")) -> _Name | None:
        """The entry with exactly this key, or None."""
        for place in places:
            if self.values.get(_Name(place, key)) is not None:
                return _Name(place, key)
        return None

    def numbers(self, name: _Name, sizes: tuple[int, ...]) -> NDArray[np.float64]:
        """An entry as a flat float64 array of one of the expected sizes; NaN is allowed, infinity is not."""
        value = self.values[name]
        text = isinstance(value, str) or (isinstance(value, np.ndarray) and value.dtype.kind in "USO")
        try:
            if text or isinstance(value, bool):
                raise ValueError
            numbers = np.asarray(value, dtype=np.float64).ravel()
        except (TypeError, ValueError):
            raise DataError(
                f"{self.where}: '{name.key}' is {value!r:.60}, not a number (Fortran's exponent D must be written E)"
            ) from None
        if numbers.size not in sizes:
            expected = " or ".join(map(str, sizes))
            raise DataError(f"{self.where}: '{name.key}' has {numbers.size} numbers, expected {expected}")
        if np.isinf(numbers).any():
            raise DataError(f"{self.where}: '{name.key}' is infinite; mark what is not labelled with NaN")
        return numbers


def _items(atoms: Atoms) -> Iterator[tuple[str, str, Any]]:
    """(place, key, value) of everything that ASE attaches to a structure; database rows nest theirs."""
    for key, value in atoms.info.items():
        if key in ("data", "key_value_pairs") and isinstance(value, Mapping):
            yield from (("data", str(inner), number) for inner, number in value.items())
        else:
            yield "info", str(key), value
    yield from (("arrays", key, value) for key, value in atoms.arrays.items())
    results = getattr(atoms.calc, "results", None)  # a calculator of another package need not keep any
    if isinstance(results, Mapping):
        yield from (("results", key, value) for key, value in results.items())


def _require_current(atoms: Atoms, where: str) -> None:
    """Refuse results of a calculator that belong to another geometry than the structure has now."""
    known = atoms.calc.atoms
    if known is None or known is atoms or _is_copy(known, atoms):
        return
    if len(known) != len(atoms) or compare_atoms(
        known, atoms, tol=1e-6, excluded_properties={"initial_charges", "initial_magmoms"}
    ):
        raise DataError(
            f"{where}: the calculator's results belong to another geometry; the structure was changed after they "
            "were computed"
        )


def _is_copy(one: Atoms, other: Atoms) -> bool:
    """Whether geometries are the same to the last digit: most are, and ASE's comparison takes a fifth of reading."""
    names = ("numbers", "positions", "pbc")
    return len(one) == len(other) and (
        np.array_equal(one.cell.array, other.cell.array)
        and all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)
    )


def _stress(numbers: NDArray[np.float64], key: str, atoms: Atoms) -> NDArray[np.float64]:
    """6 or 9 numbers -> symmetric (3, 3) stress, eV/Å³; a virial becomes −W / V; NaN where stress has no meaning."""
    volume = abs(np.linalg.det(atoms.cell.array))
    if not (atoms.pbc.any() and volume > 0):
        return np.full((3, 3), np.nan)
    full = _symmetric(numbers)
    return -full / volume if "virial" in key.lower() else full


def _symmetric(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """xx yy zz yz xz xy, or 9 numbers -> symmetric (3, 3)."""
    full = numbers[[0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(3, 3) if numbers.size == 6 else numbers.reshape(3, 3)
    return 0.5 * (full + full.T)


def _speaks_of_a_label(key: str) -> bool:
    """Whether a key names something that must be a number."""
    return any(word in key.lower() for word in (*_WORDS, "charge"))


def _finite(value: float, key: str, where: str) -> float:
    """A charge that is a number."""
    if not np.isfinite(value):
        raise DataError(f"{where}: '{key}' is {value}; a total charge must be a finite number of e")
    return float(value)
