"""What a distillation needs to be told, as one strict YAML."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

Share = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]
WholeNumber = Annotated[int, msgspec.Meta(ge=0)]
Range = tuple[float, float]


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Frozen, keyword-only, and no unknown key."""


class SeedGroup(_Strict, frozen=True):
    """Files of structures that recipes name together."""

    files: tuple[str, ...]
    """Anything that mlanet reads, JSON lists of pymatgen structures, and `prototypes`: AFLOW's, from pymatgen."""
    max_atoms: Count = 40
    """Larger structures are left out."""


class Recipe(_Strict, frozen=True):
    """How structures are made from seeds; what is not given is left as it is."""

    share: Share
    """How often, relative to the other recipes."""
    seeds: tuple[str, ...] = ()
    """Names of seed groups, drawn from equally; all if empty."""
    substitute: bool = False
    """Replace every element by a related one and adapt the volume."""
    shuffle: bool = False
    """Deal the elements to the sites anew: antisites, alloys."""
    supercell: bool = False
    """Repeat the cell, at random up to `max_atoms`."""
    vacancies: WholeNumber = 0
    """Take out one to so many atoms of a supercell."""
    slab: bool = False
    """A low-index surface with vacuum."""
    dimer: bool = False
    """Two atoms of any elements; the seed is not used."""
    volume: Range = (1.0, 1.0)
    """Factor on the volume, drawn between these."""
    strain: Range = (0.0, 0.0)
    """Largest component of a random symmetric strain."""
    rattle: Range = (0.0, 0.0)
    """Å, standard deviation of the displacement of each coordinate."""
    relax: WholeNumber = 0
    """With a student: up to so many steps of relaxation, of atoms and cell, before the teacher is asked."""
    explore: WholeNumber = 0
    """With a student: so many steps of hot dynamics before the teacher is asked."""
    temperature: Share = 1000.0
    """K, of `explore`."""
    max_atoms: Count = 24
    """Larger results are left out."""

    def __post_init__(self) -> None:
        for name in ("volume", "strain", "rattle"):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise ValueError(f"{name} must be two numbers, 0 ≤ low ≤ high, got {low}, {high}")
        if self.volume[0] == 0:
            raise ValueError("volume must be positive")


class TeacherConfig(_Strict, frozen=True):
    """Who labels, and with what interpreter."""

    name: str
    """`7net-l3i5`, `7net-0`, `chgnet`, `emt`, `mlanet:FILE`, or `module:factory` of an ASE calculator."""
    python: str | None = None
    """The interpreter that has the teacher; this one if not given."""
    workers: Count = 1
    """Processes, each on one thread."""


class LabelConfig(_Strict, frozen=True):
    """Which labels are kept."""

    count: Count
    """Labels wanted in each round."""
    max_force: Annotated[float, msgspec.Meta(gt=0)] = 30.0
    """eV/Å; a structure with a larger force is left out."""
    max_stress: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    """eV/Å³; likewise."""
    veto: TeacherConfig | None = None
    """A second teacher; a structure on which the two differ by more than `veto_forces` is left out."""
    veto_forces: Annotated[float, msgspec.Meta(gt=0)] = 0.5
    """Root mean square difference of the forces, as a fraction of 0.5 eV/Å + their root mean square."""


class DistillConfig(_Strict, frozen=True):
    """One distillation: `mlanet distill config.yaml`."""

    folder: str
    """Where labels, models and the page go."""
    teacher: TeacherConfig
    seeds: dict[str, SeedGroup]
    recipes: dict[str, Recipe]
    labels: LabelConfig
    start_from: str | None = None
    """A student to go on from, file or packaged name: it explores in the first round, whose training starts there."""
    rounds: Count = 1
    """From the second on, seeds are drawn as often as the student is wrong on their elements, and recipes likewise."""
    data: tuple[str, ...] = ()
    """Further labelled files to train on, of the teacher's level of theory."""
    leave: tuple[str, ...] = ()
    """Recipes whose labels are not trained on."""
    valid_share: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.04
    """Of the compositions, for validation."""
    test: tuple[str, ...] = ()
    """Files of reference data for the page. No structure of their formulas is labelled or trained on."""
    test_share: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0
    """Of the compositions in `data`, that are tested on like `test` in place of training: FOLDER/test.extxyz. Which
    ones depends on their formulas alone, so other files and later runs set the same apart."""
    elements: tuple[str, ...] = ()
    """All that the teacher knows, or those of the seeds, if empty."""
    seed: WholeNumber = 0
    """Structure k of a round depends on this, the round and k alone."""
    student: dict[str, Any] = {}
    """Keys of `mlanet train`, without `data` and `run.folder`; each round after the first starts from the last."""
