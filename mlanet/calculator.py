"""`MLANetCalculator`: a potential as a calculator of ASE, for relaxation, dynamics, phonons and all else there."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from numpy.typing import NDArray

from mlanet import DEFAULT_MODEL
from mlanet.arrays import AnswerArrays
from mlanet.atomic_stress import atomic_stresses, shares, stresses_obstacle
from mlanet.data.bounds import MIN_DISTANCE
from mlanet.data.labels import LabelKeys, find_atomic_charges, find_charge
from mlanet.data.structures import ase_results
from mlanet.errors import ConfigError, DataError, NotFiniteError
from mlanet.execution import Execution
from mlanet.limits import UNKNOWN, Assessment, Exporting, assess, assessed_results
from mlanet.steps import NativeSteps, TorchSteps, steps_of
from mlanet.supported import lone_atoms, require_species
from mlanet.units import VOIGT
from mlanet.verlet import Neighbors, changes

if TYPE_CHECKING:
    from mlanet.execution import Answering
    from mlanet.graph import Prediction
    from mlanet.potential import Potential
    from mlanet.precision import MatmulCost


class MLANetCalculator(Exporting, Calculator):
    """Energy, free_energy (the same), energies of atoms, forces and stress in ASE's units, signs and order.

    - energy eV · energies (N,) eV, summing to it · forces (N, 3) eV/Å
    - stress (6,) eV/Å³, σ = (1/V) ∂E/∂ε, tension positive, order xx yy zz yz xz xy, with V of the cell as given;
      `PropertyNotImplementedError` for a structure without a periodic direction or a volume

    - stresses (N, 6) eV/Å³, summing to the stress (`mlanet.atomic_stress`); where they are asked for, with torch at the
      price of one more step; of models with gradient forces and without a long-range term
    - charges (N,) e, only of models with a Coulomb term: latent, learnt from energies and forces alone
    - dipole (3,) e Å from the origin, where no direction is periodic, and polarizability (3, 3) Å³, of models with
      such `outputs`
    - in `results` beside these, of models that know their limits: extrapolation (`inside`, `edge` or `outside` of the
      training set), and standard errors energy_std eV, forces_std (N,) eV/Å of each component, stress_std eV/Å³;
      `assessment` holds the reasons (docs/uncertainty.md)

    The total charge is read from `atoms.info` (`total_charge` or `charge`, in e), and changing it there makes a new
    calculation. Structures are not changed. Copies and pickles are independent of the original; one calculator may be
    asked by several threads, which then take turns.

    Args:
        model: a packaged model's name, a path of a model file (a native one too), or a `Potential` (a snapshot of it is
            taken). A file that the native engine can answer for is computed without torch (docs/native.md).
        dtype: "float32" or "float64"; None keeps the model's. Relaxation and phonons want float64.
        device: "cpu", "cuda", "cuda:1", …
        skin: Å. Neighbours are looked up within cutoff + skin, and again only when an atom has moved by more than
            skin/2 or anything else has changed. Results do not depend on it. For dynamics, 0.5 is a fair value.
        tabulated: read LEIGNN's radial filters from tables: faster where it has 64 or more radial functions.
        kernels: "native" (a whole step without torch, on a CPU: fastest), "fused", or "plain" torch; "auto" takes the
            fastest that is known to be so.
        capture: on a GPU, record a step once and replay it as a CUDA graph (docs/decisions/0014): for dynamics of some
            thousand atoms with a skin. Where that cannot be done a warning says why, and steps are computed one by one.
        compiled: have torch compile the whole step, which takes a minute and pays in long runs, most for small cells.
            Where that cannot be done a warning says why.
        matmul: matrix products of a float32 model in fewer digits, "tf32" on NVIDIA GPUs; after the first calculation
            `matmul_cost` says what that costs.
    Raises:
        CheckpointError: no such model, or a damaged file.
        ConfigError: an unknown dtype or device, a negative skin, tables or kernels of a model that has none, a capture
            without a GPU, digits that the device does not have.
    """

    name = "mlanet"
    assessment: Assessment = Assessment(UNKNOWN)
    """Of the last calculation, with the reasons."""
    _said: Prediction | AnswerArrays | None = None
    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress", "stresses", "charges"]  # noqa: RUF012 - as in ASE

    def __init__(
        self,
        model: Potential | str | os.PathLike[str] = DEFAULT_MODEL,
        *,
        dtype: str | None = None,
        device: str = "cpu",
        skin: float = 0.0,
        tabulated: bool = False,
        kernels: str = "auto",
        capture: bool = False,
        compiled: bool = False,
        matmul: str = "float32",
    ) -> None:
        super().__init__()
        execution = Execution(dtype, device, kernels, matmul, compiled, capture, tabulated, skin)
        # Weights without gradients: derivatives are taken of positions and strain only.
        self.steps = steps_of(model, execution)
        self.implemented_properties = [*self.implemented_properties, *self.answering.outputs]
        named = isinstance(model, str | os.PathLike)
        self.parameters.update(
            model=os.fspath(model) if named else type(self.steps.potential.model).__name__,  # type: ignore[arg-type]
            dtype=self.answering.precision,
            skin=float(skin),
            tabulated=tabulated,
            kernels=kernels,
            capture=capture,
            compiled=compiled,
            matmul=matmul,
        )
        self._skin_list = _SkinList(self.steps, float(skin))
        self._lock = threading.RLock()
        if not self.answering.conservative:
            warnings.warn(
                "the forces of this model are a direct head, not the gradient of its energy: energy drifts in "
                "constant-energy dynamics, and line searches, phonons and barriers are unreliable; use a model with "
                "`forces: gradient` for these",
                stacklevel=3,
            )

    @property
    def answering(self) -> Answering:
        """What answers, with torch or without: `cutoff`, `species`, `statistics`, `domain`, `conservative`."""
        return self.steps.answering

    @property
    def potential(self) -> Potential:
        """The model as torch computes it; where the native engine answers alone, it is loaded when first asked for."""
        with self._lock:
            return self.steps.potential

    @property
    def prediction(self) -> Prediction | None:
        """Of the last calculation, as tensors."""
        if not isinstance(self._said, AnswerArrays):
            return self._said
        from mlanet.graph import Prediction

        return Prediction.of(self._said)

    @property
    def matmul_cost(self) -> MatmulCost | None:
        """What fewer digits cost, after the first calculation with them."""
        return self.steps.matmul_cost

    @property
    def neighbor_lists_built(self) -> int:
        """How often neighbours were looked up since this calculator (or its original) was made."""
        return self._skin_list.built

    def set(self, **parameters: object) -> dict[str, object]:
        """Refuse: what shapes a calculator is given when it is made."""
        if parameters:
            raise ConfigError(f"{', '.join(parameters)} cannot be changed afterwards; make a new MLANetCalculator")
        return {}

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What changed since the last calculation, charges in `atoms.info` included."""
        changed = changes(self.atoms, atoms)
        if self.atoms is not None and not _same_charges(_charges(self.atoms), _charges(atoms)):
            changed.append("charge")
        return changed

    def get_property(self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True) -> Any:
        """One property, from the last calculation where nothing has changed since."""
        with self._lock:
            given = self.atoms if atoms is None else atoms
            if name == "stresses" and given is not None and not self.calculation_required(given, ["energy"]):
                self._share_stress(given)
            return super().get_property(name, atoms, allow_calculation)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Everything the model says of `atoms`; called by ASE.

        Raises:
            UnsupportedElementError: an element that the model does not know.
            GeometryError: a structure without a meaning; `NotFiniteError`, of this kind, where the model gives NaN.
        """
        with self._lock:
            super().calculate(atoms, properties, system_changes)
            if self.atoms is None:
                raise DataError("the calculator has no structure yet; call atoms.get_potential_energy()")
            self.results, answering = {}, self.answering
            if list(properties) == ["stress"] and not _has_stress(self.atoms):
                raise PropertyNotImplementedError("stress needs a periodic direction and a cell with a volume")
            if "stresses" in properties and (obstacle := stresses_obstacle(answering)):
                raise PropertyNotImplementedError(f"stresses: {obstacle}")
            if list(properties) == ["stresses"] and not _has_stress(self.atoms):
                raise PropertyNotImplementedError("stresses need a periodic direction and a cell with a volume")
            if list(properties) == ["dipole"] and self.atoms.pbc.any():
                raise PropertyNotImplementedError("a dipole has a meaning only where no direction is periodic")
            answering.mention_ignored_charge(_charges(self.atoms)[0])
            graph, self._said = self.steps.said(self._skin_list, self.atoms)
            self.results = self._results(self._said.arrays())
            self.assessment = assess(answering.domain, answering.statistics, graph, self._said)
            self.results |= assessed_results(self.assessment)
            if "stresses" in properties and _has_stress(self.atoms):
                each = atomic_stresses(answering, graph, self._said.arrays())
                self.results["stresses"] = each[:, VOIGT[0], VOIGT[1]]

    def _share_stress(self, atoms: Atoms) -> None:
        """Stresses of atoms from what was said of them, where that has their virials."""
        virials = None if self._said is None else self._said.arrays().atomic_virials
        if virials is not None and _has_stress(atoms):
            each = shares(virials, np.full(len(virials), atoms.get_volume()))
            self.results["stresses"] = each[:, VOIGT[0], VOIGT[1]]

    def _results(self, prediction: AnswerArrays) -> dict[str, Any]:
        """A prediction in ASE's words."""
        results = ase_results(prediction)
        finite = np.isfinite(results["forces"]).all(axis=1)
        if not (np.isfinite(results["energy"]) and finite.all()):
            atom = "" if finite.all() else f" (first at atom {int(finite.argmin())})"
            raise NotFiniteError(f"the model gives no finite energy or forces for this structure{atom}")
        if "stress" not in results and not np.isnan(prediction.stress[0]).all():
            raise NotFiniteError("the model gives a stress that is not finite for this structure")
        return results

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["_lock"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()


class _SkinList:
    """Graphs of successive structures from one neighbour list with a skin (`Neighbors`).

    Pairs beyond the cutoff are dropped, so the graph is that of a fresh list, pair by pair.
    """

    def __init__(self, steps: NativeSteps | TorchSteps, skin: float) -> None:
        self.steps = steps
        self.cutoff = steps.answering.cutoff
        self.species = steps.answering.species
        self.skin = skin
        self.built = 0
        self.statistics = steps.answering.statistics
        self.told = False
        self._list: Neighbors | None = None
        self._charges: Any = None

    def graph(self, atoms: Atoms) -> Any:
        """The graph of `atoms` (without a calculator) within the model's cutoff; raises as `to_graph`."""
        wide = self.wide(atoms)
        if self.skin == 0.0:
            return wide
        if wide.n_edges and wide.nearest()[0] < MIN_DISTANCE**2:
            return self.steps.graph(atoms, self.cutoff)  # which names the overlapping pair
        return wide.within(self.cutoff)

    def wide(self, atoms: Atoms) -> Any:
        """The same with all pairs of the list, those beyond the cutoff too."""
        known = self._list
        if known is None or not known.serves(atoms) or not _same_charges(self._charges, _charges(atoms)):
            self._list = None
            wide = self.steps.graph(atoms, self.cutoff + self.skin)
            require_species(wide.numbers, self.species)
            self.built += 1
            self._warn_of_lone_atoms(wide)
            if self.skin == 0.0:
                return wide
            known = self._list = Neighbors(wide, atoms, self.cutoff)
            self._charges = _charges(atoms)
        return known.now(atoms)

    def _warn_of_lone_atoms(self, wide: Any) -> None:
        """Once per calculator, where an atom lost its last neighbour and its energy is no free atom's."""
        if not self.told and (remark := lone_atoms(wide, self.statistics)) is not None:
            self.told = True
            warnings.warn(remark, stacklevel=2)


_NESTING = ("data", "key_value_pairs")
"""Entries of `atoms.info` that hold entries themselves, in structures from databases."""


def _charges(atoms: Atoms) -> tuple[float, NDArray[np.float64] | None]:
    """Total and per-atom charges that a graph of `atoms` would get, in e."""
    if not any("charge" in str(key).lower() or key in _NESTING for key in (*atoms.info, *atoms.arrays)):
        return 0.0, None
    bare = atoms if atoms.calc is None else atoms.copy()  # results of a calculator are answers, not inputs
    return find_charge(bare, LabelKeys(), "structure"), find_atomic_charges(bare, LabelKeys(), "structure")


def _same_charges(
    one: tuple[float, NDArray[np.float64] | None], other: tuple[float, NDArray[np.float64] | None]
) -> bool:
    (total, atomic), (other_total, other_atomic) = one, other
    if atomic is None or other_atomic is None:
        return total == other_total and atomic is other_atomic
    return total == other_total and np.array_equal(atomic, other_atomic)


def _has_stress(atoms: Atoms) -> bool:
    return bool(atoms.pbc.any()) and abs(np.linalg.det(atoms.cell.array)) > 0.0
