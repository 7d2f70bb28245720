"""What a sweep needs to be told, as one strict YAML or as options of the command line."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from mlanet.data.labels import LabelKeys
from mlanet.quantities import Name
from mlanet.training.config import BudgetConfig, LossConfig, OptimizerConfig, ScheduleConfig

Count = Annotated[int, msgspec.Meta(ge=1)]
WholeNumber = Annotated[int, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, lt=1)]


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Frozen, keyword-only, and no unknown key."""


class SweepData(_Strict, frozen=True):
    """The labelled structures, and how they are divided into training, validation and test part."""

    files: tuple[str, ...]
    """Labelled structures (extxyz, ASE db, traj, …, also .xz)."""
    test: tuple[str, ...] = ()
    """Files of the test part; without any, `test_fraction` of `files` is held out."""
    test_fraction: Share = 0.1
    """Held out when `test` is empty; no model is trained on it or chosen by it."""
    valid_fraction: Share = 0.1
    """Of `files`, for choosing the best weights of each training; 0 for none."""
    split: Literal["random", "group"] = "random"
    """`group` keeps frames of one trajectory (info `group`, `traj`, `config_type` or the file) in one part."""
    seed: WholeNumber = 0
    """Of the split, and of the order whose first n structures are the training set of size n."""
    labels: LabelKeys = LabelKeys()
    """Names of labels in the files; empty = found by themselves."""
    require: tuple[Name, ...] = ("energy", "forces")
    """Labels that must be there."""
    keep_unconverged: bool = False
    """Also take frames whose electrons did not converge; they are left out, with a warning."""

    def __post_init__(self) -> None:
        if not self.files:
            raise ValueError("files: at least one file of labelled structures is needed")
        if not self.test and self.test_fraction <= 0:
            raise ValueError("test_fraction must be positive where no test files are given")
        if self.valid_fraction + (0 if self.test else self.test_fraction) >= 1:
            raise ValueError("valid_fraction and test_fraction leave nothing to train on")


class SweepRun(_Strict, frozen=True):
    """On what is computed; the number of processes is not part of a sweep, it may change between starts."""

    device: str = "auto"
    """`auto` takes a GPU where there is one; else cpu, cuda, cuda:N."""
    dtype: Literal["float32", "float64"] = "float32"
    """Of weights and forces."""
    threads: Count | None = None
    """CPU threads of each point; the cores shared out over the processes of the first start if not given."""
    deterministic: bool = False
    """Refuse operations without a deterministic form."""


class SweepConfig(_Strict, frozen=True):
    """One sweep: `mlanet sweep sweep.yaml`."""

    data: SweepData
    budget: BudgetConfig
    """The same for every point: steps, minutes or epochs, and the batches. `validate_every`, if not given, is chosen
    so that validation takes about a tenth of the structures that training takes."""
    presets: tuple[str, ...] = ("mlanet_l2",)
    """Names of presets, or YAML files of one's own."""
    l_max: tuple[Count, ...] = ()
    """Highest degrees of the features; empty = as in the presets."""
    sizes: tuple[Count, ...] = ()
    """Training structures; smaller sets are parts of larger ones; empty = all there are."""
    seeds: tuple[WholeNumber, ...] = (0,)
    """Of the initial weights and of the order of batches."""
    model: dict[str, Any] = {}
    """Keys that are changed in every preset, as `cutoff`; `channels` is the multiplicity of every degree."""
    references: str | dict[str, float] = "auto"
    """E₀, as in a training."""
    loss: LossConfig = LossConfig()
    """As in a training."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """As in a training."""
    schedule: ScheduleConfig = ScheduleConfig()
    """As in a training."""
    run: SweepRun = SweepRun()
    """Device, precision, threads."""
    output: str = "sweep"
    """Folder for points, tables and the report."""

    def __post_init__(self) -> None:
        for name in ("presets", "seeds"):
            if not getattr(self, name):
                raise ValueError(f"{name}: at least one is needed")
        for name in ("presets", "l_max", "sizes", "seeds"):
            values = getattr(self, name)
            if twice := {value for value in values if values.count(value) > 1}:
                raise ValueError(f"{name}: {sorted(twice)[0]} stands twice")
