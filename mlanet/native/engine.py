"""The native engine from Python: numpy in, numpy out, no torch."""

from __future__ import annotations

import ctypes
import functools
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlanet.errors import CheckpointError, ConfigError, GeometryError
from mlanet.native.file import read_header
from mlanet.ops.cpp import build

SOURCES = Path(__file__).parent / "cpp"
KERNELS = Path(build.__file__).parent
REALS = {"float32": "float", "float64": "double"}
LIMITS = ("distances", "energies_std", "forces_std")
"""What models say of their limits, in the order of engine.hpp."""
ROOM = 1000
"""Bytes for a text of what went wrong."""

Rows = NDArray[Any]
_Pass = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32)


class _Structure(ctypes.Structure):
    """As in engine.hpp."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("n_local", "n_total")),
        *((name, ctypes.c_void_p) for name in ("species", "start", "neighbor", "vectors")),
    ]


class _Answer(ctypes.Structure):
    """As in engine.hpp."""

    _fields_ = [
        ("energy", ctypes.c_double),
        ("virial", ctypes.c_double * 9),
        *((name, ctypes.c_void_p) for name in ("atomic_energies", "forces", "atomic_virials", "features")),
        *((name, ctypes.c_void_p) for name in LIMITS),
    ]


@dataclass(frozen=True)
class Answer:
    """What the model says of the local atoms.

    - energy eV, references included · atomic_energies (n_local,) eV, summing to it
    - forces (n_total, 3) eV/Å, those of ghosts being shares of their owners · virial (3, 3) eV, ∂E/∂ε: stress times
      volume · atomic_virials (n_local, 3, 3) eV, summing to it
    - features (n_local, F), what the last linear layer sees, less the same of a lone atom
    - distances (n_local,) from the training set, 1 at its border, energies_std eV and forces_std eV/Å, standard errors
      of atoms (docs/uncertainty.md); None where they were not asked for, or are not known
    """

    energy: float
    atomic_energies: NDArray[np.float64]
    forces: NDArray[np.float64]
    virial: NDArray[np.float64]
    atomic_virials: NDArray[np.float64]
    features: NDArray[np.float64]
    distances: NDArray[np.float64] | None = None
    energies_std: NDArray[np.float64] | None = None
    forces_std: NDArray[np.float64] | None = None


class Engine:
    """A model from a native file, ready to compute; threads of Python take turns.

    Args:
        model: a path, or the bytes of a file.
        precision: "float32" or "float64", of the computation; None for that of the file.
        threads: that a computation may take.
    Raises:
        CheckpointError: no such file, or one that is damaged or of another kind.
        ConfigError: an unknown precision.
        KernelError: it cannot be compiled here.
    """

    def __init__(
        self, model: str | os.PathLike[str] | bytes, *, precision: str | None = None, threads: int = 1
    ) -> None:
        data, name = (model, "") if isinstance(model, bytes) else (_bytes(model), f"{os.fspath(model)}: ")
        try:
            self.header = read_header(data)
            self.precision = str(precision or self.header["precision"])
            only = only_kind(self.header, self.precision)
        except ConfigError:
            raise
        except (CheckpointError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{name}{error}") from None
        self.data, self._turn = data, threading.Lock()
        self._library, complaint = _library(only), ctypes.create_string_buffer(ROOM)
        words = (data, len(data), 1 + list(REALS).index(self.precision), complaint, ROOM)
        self._engine = self._library.mlanet_engine_read(*words)
        if not self._engine:
            raise CheckpointError(f"{name}{complaint.value.decode(errors='replace')}")
        self.threads = threads
        self.feature_width = int(self._library.mlanet_engine_feature_width(self._engine))
        self.largest_width = int(self._library.mlanet_engine_largest_width(self._engine))

    def __del__(self) -> None:
        if getattr(self, "_engine", None):
            self._library.mlanet_engine_close(self._engine)

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (self.data, self.precision, self.threads)

    @functools.cached_property
    def usual_threads(self) -> int:
        """As many as OpenMP takes by itself, or as `OMP_NUM_THREADS` says; 1 without OpenMP."""
        try:
            return max(1, int(self._library.omp_get_max_threads()))
        except AttributeError:
            return 1

    @property
    def cutoff(self) -> float:
        """Å."""
        return float(self.header["cutoff"])

    @property
    def species(self) -> tuple[int, ...]:
        """Atomic numbers that it knows, ascending."""
        return tuple(self.header["species"])

    def compute(
        self,
        species: ArrayLike,
        start: ArrayLike,
        neighbor: ArrayLike,
        vectors: ArrayLike,
        forward: Callable[[Rows], None] | None = None,
        reverse: Callable[[Rows], None] | None = None,
        limits: bool = False,
    ) -> Answer:
        """One step.

        Args:
            species: (n_total,) places in `self.species`, of local atoms and of ghosts behind them.
            start: (n_local + 1,) pairs of atom i are start[i] … start[i + 1] − 1.
            neighbor: (pairs,) below n_total.
            vectors: (pairs, 3) Å from an atom to its neighbour; pairs beyond the cutoff count as absent.
            forward: fills the rows of ghosts (n_total, width) from those of their owners, in place.
            reverse: adds the rows of ghosts to those of their owners, in place.
            limits: whether what the model knows of its limits is asked for.
        Raises:
            GeometryError: a structure without a meaning.
        """
        kinds = np.ascontiguousarray(species, dtype=np.int32).reshape(-1)
        first = np.ascontiguousarray(start, dtype=np.int64).reshape(-1)
        there = np.ascontiguousarray(neighbor, dtype=np.int64).reshape(-1)
        apart = np.ascontiguousarray(vectors, dtype=np.float64).reshape(-1, 3)
        n_local, n_total = len(first) - 1, len(kinds)
        if n_local < 0 or int(first[-1]) != len(there) or len(there) != len(apart):
            raise GeometryError(f"start ends at {first[-1:]}, with {len(there)} neighbours and {len(apart)} vectors")
        given = _Structure(n_local, n_total, *(_address(array) for array in (kinds, first, there, apart)))
        atomic, forces = np.empty(n_local), np.empty((n_total, 3))
        virials, features = np.empty((n_local, 3, 3)), np.empty((n_local, self.feature_width))
        known = {name: np.empty(n_local) for k, name in enumerate(LIMITS) if limits and self._knows(k)}
        places = {name: _address(one) for name, one in known.items()}
        words = (_address(array) for array in (atomic, forces, virials, features))
        answer = _Answer(0.0, (ctypes.c_double * 9)(), *words, **places)
        error = ctypes.create_string_buffer(ROOM)
        passes = [_Pass() if array is None else _Pass(_on_rows(array, n_total)) for array in (forward, reverse)]
        threads = _possible(min(self.threads, max(1, n_local)))
        call = self._library.mlanet_engine_compute
        with self._turn:
            done = call(self._engine, ctypes.byref(given), threads, *passes, ctypes.byref(answer), error, ROOM)
        if not done:
            raise GeometryError(error.value.decode(errors="replace"))
        virial = np.array(answer.virial).reshape(3, 3)
        return Answer(answer.energy, atomic, forces, virial, virials, features, **known)

    def _knows(self, limit: int) -> bool:
        return bool(self._library.mlanet_engine_knows(self._engine, limit))


_parallel = _orphaned = False
"""Whether OpenMP has threads in this process; whether they were left behind by a fork, which would wait for ever."""


def _possible(threads: int) -> int:
    global _parallel
    if _orphaned:
        return 1
    _parallel = _parallel or threads > 1
    return threads


def _note_fork() -> None:
    global _orphaned
    _orphaned = _orphaned or _parallel


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


def _made(data: bytes, precision: str, threads: int) -> Engine:
    return Engine(data, precision=precision, threads=threads)


def _bytes(path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CheckpointError(f"{os.fspath(path)}: {error.strerror or error}; expected a native model") from None


def _address(array: NDArray[Any]) -> int:
    return int(array.ctypes.data)


def _on_rows(work: Callable[[Rows], None], n_total: int) -> Callable[[int, int, int], None]:
    """What C++ calls, with a view of the rows for Python."""

    def called(place: int, width: int, is_double: int) -> None:
        kind = ctypes.c_double if is_double else ctypes.c_float
        work(np.ctypeslib.as_array(ctypes.cast(place, ctypes.POINTER(kind)), (n_total, width)))

    return called


def only_kind(header: Mapping[str, Any], precision: str) -> str:
    """The kind of model in a file, as `MLANET_ONLY` of cpp/engine.cpp wants it.

    Raises:
        ConfigError: an unknown precision.
        CheckpointError: a kind that the engine does not know.
    """
    if precision not in REALS:
        raise ConfigError(f"precision '{precision}' is not supported; use {' or '.join(REALS)}")
    real = REALS[precision]
    match header["model"]:
        case "leignn":
            return f"LEIGNN<{real}>"
        case "mlanet":
            if (l_max := int(header["settings"]["l_max"])) not in (1, 2, 3):
                raise CheckpointError(f"the header has l_max {l_max}, expected 1, 2 or 3")
            return f"MLANet<{real},{l_max}>"
        case other:
            raise CheckpointError(f"the file holds a model of kind '{other}', this program knows mlanet and leignn")


def sources() -> tuple[Path, ...]:
    """All files that the engine is made of."""
    return (*SOURCES.glob("*.[hc]pp"), *KERNELS.glob("*.hpp"))


@functools.cache
def _library(only: str) -> ctypes.CDLL:
    """Compiled for one kind of model, on first use."""
    library = build.load(SOURCES / "calls.cpp", (f"-DMLANET_ONLY={only}",), sources())
    place, size, number = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32
    library.mlanet_engine_read.argtypes = [ctypes.c_char_p, size, number, ctypes.c_char_p, size]
    library.mlanet_engine_read.restype = place
    library.mlanet_engine_close.argtypes = [place]
    for name in ("feature_width", "largest_width"):
        function = getattr(library, f"mlanet_engine_{name}")
        function.argtypes, function.restype = [place], size
    library.mlanet_engine_knows.argtypes, library.mlanet_engine_knows.restype = [place, number], number
    library.mlanet_engine_compute.argtypes = [place, place, number, _Pass, _Pass, place, ctypes.c_char_p, size]
    library.mlanet_engine_compute.restype = number
    return library
