"""What a training needs to be told, as one strict YAML; every key with its unit and effect."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import msgspec

from mlanet.config import parse, read_yaml, to_data, with_overrides
from mlanet.data.labels import LabelKeys
from mlanet.errors import ConfigError
from mlanet.execution import Execution
from mlanet.models import ModelConfig, ModelSettings, read_model_config
from mlanet.quantities import NAMES, Name

DEFAULT_MODEL = "mlanet_l2"

Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, lt=1)]
Part = Annotated[float, msgspec.Meta(gt=0, lt=1)]
Count = Annotated[int, msgspec.Meta(ge=1)]
WholeNumber = Annotated[int, msgspec.Meta(ge=0)]


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Frozen, keyword-only, and no unknown key."""


class DataConfig(_Strict, frozen=True):
    """Where the labelled structures are and which of them are for validation."""

    train: tuple[str, ...]
    """Files of labelled structures (extxyz, ASE db, traj, …, also .xz)."""
    valid: tuple[str, ...] = ()
    """Files for validation; without any, a part of `train` is set aside."""
    valid_fraction: float = 0.1
    """Fraction of `train` set aside when `valid` is empty; 0 for none."""
    split: Literal["random", "group"] = "random"
    """`group` keeps frames of one trajectory (info `group`, `traj`, `config_type` or the file) on one side."""
    seed: WholeNumber = 0
    """Of the split and of `train_limit`."""
    train_limit: int | None = None
    """Use only so many training structures, drawn by `seed`: for learning curves."""
    labels: LabelKeys = LabelKeys()
    """Names of labels in the files; empty = found by themselves, and the audit says which."""
    require: tuple[Name, ...] = ("energy", "forces")
    """Labels that must be there; training stops with an error if one is in no frame."""
    keep_unconverged: bool = False
    """Also train on frames whose electrons did not converge; they are left out, with a warning."""
    cache: str | None = None
    """Folder for ready neighbour lists, keyed by content and cutoff; not with `keep_unconverged`."""

    def __post_init__(self) -> None:
        if not self.train:
            raise ValueError("train: at least one file is needed")
        if not 0 <= self.valid_fraction < 1:
            raise ValueError(f"valid_fraction must be in [0, 1), got {self.valid_fraction}")
        if self.train_limit is not None and self.train_limit < 1:
            raise ValueError(f"train_limit must be at least 1, got {self.train_limit}")


class LossConfig(_Strict, frozen=True):
    """L = λ_E |ΔE|/N + λ_F mean|ΔF| + λ_S mean|Δσ| + …, each over the labelled entries of a batch."""

    energy: NotNegative = 1.0
    """λ_E, per eV/atom."""
    forces: NotNegative = 1.0
    """λ_F, per eV/Å."""
    stress: NotNegative = 20.0
    """λ_S, per eV/Å³; the labels are some hundred times smaller than forces."""
    dipole: NotNegative = 1.0
    """λ_μ, per e Å; of models with `outputs: [dipole]`."""
    polarizability: NotNegative = 0.1
    """λ_α, per Å³; of models with `outputs: [polarizability]`."""
    atomic_energies: NotNegative = 0.0
    """λ_e, per eV; where a teacher's labels hold energies of atoms."""
    kind: Literal["l1", "huber", "mse"] = "l1"
    """`huber` is quadratic below 0.01 of the unit, `mse` everywhere."""
    late_energy_factor: Positive = 5.0
    """Multiplies λ_E in the last fifth of the budget, when the forces have settled; 1 = never."""

    def __post_init__(self) -> None:
        if all(getattr(self, name) == 0 for name in NAMES):
            raise ValueError("all weights are 0, there is nothing to learn from")


class OptimizerConfig(_Strict, frozen=True):
    """The optimiser, with gradient clipping and an exponential moving average of the weights."""

    kind: Literal["auto", "adamw", "muon"] = "auto"
    """`muon`: orthogonal steps for the layers' matrices, AdamW for the rest (mlanet/training/optimizer.py). `auto`:
    muon for MLANet, adamw for LEIGNN, as measured in docs/accuracy.md."""
    lr: Positive = 5e-3
    """Highest learning rate; smaller for fine-tuning, and for networks much wider or deeper than the presets."""
    weight_decay: NotNegative = 0.0
    """Decoupled weight decay."""
    amsgrad: bool = True
    """The AMSGrad variant, with `kind: adamw`; steadier with L1 losses."""
    clip: Positive = 10.0
    """Largest norm of the gradient."""
    ema: Share = 0.99
    """Decay per step of the averaged weights that are validated and saved; 0.999 for runs of 10⁵ steps."""


class ScheduleConfig(_Strict, frozen=True):
    """The learning rate in the course of the budget."""

    kind: Literal["cosine", "plateau", "constant"] = "cosine"
    """`plateau` multiplies by `factor` after `patience` validations without a new best."""
    warmup_steps: WholeNumber = 50
    """Linear rise from 0."""
    min_lr: NotNegative = 1e-5
    """Lowest learning rate."""
    patience: WholeNumber = 5
    """Validations, for `plateau`."""
    factor: Part = 0.8
    """For `plateau`."""


class BudgetConfig(_Strict, frozen=True):
    """How long, in which batches, and how often to validate."""

    epochs: int | None = None
    """Passes over the training set; give exactly one of epochs, steps and minutes."""
    steps: int | None = None
    """Optimiser steps."""
    minutes: float | None = None
    """Wall time; not reproducible to the bit, as the schedule follows the clock."""
    max_edges: Count = 6000
    """Directed pairs in a batch: what memory and time follow."""
    max_memory: Positive | None = None
    """GiB that a training step may need, everything included; batches are made so that the forecast stays below."""
    max_structures: Count | None = 4
    """Structures in a batch; small batches learn more per pass."""
    validate_every: Count | None = None
    """Steps between validations; every epoch if not given."""
    early_stop: Count | None = None
    """Stop after so many validations without a new best."""

    def __post_init__(self) -> None:
        given = [name for name in ("epochs", "steps", "minutes") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of epochs, steps and minutes, got {', '.join(given) or 'none'}")
        if (value := getattr(self, given[0])) <= 0:
            raise ValueError(f"{given[0]} must be positive, got {value}")


class RunConfig(_Strict, frozen=True):
    """Where results go and on what they are computed."""

    folder: str
    """Made if missing; one that holds a run already is never overwritten."""
    seed: WholeNumber = 0
    """Of the initial weights and of the order of batches."""
    kernels: Literal["auto", "plain", "fused"] = "auto"
    """`fused` in C++, several times faster and in less memory, or `plain` torch; `auto` takes the fastest."""
    compiled: bool = False
    """Have torch compile the whole step, second derivatives included: takes minutes, pays in long trainings."""
    matmul: Literal["float32", "tf32"] = "float32"
    """Matrix products of a float32 training, `tf32` on NVIDIA GPUs; the log says what that costs."""
    dtype: Literal["float32", "float64"] = "float32"
    """Of weights and forces; energies are summed in float64 always."""
    device: str = "auto"
    """`auto` takes a GPU where there is one; else cpu, cuda, cuda:N."""
    deterministic: bool = False
    """Refuse operations without a deterministic form (a CPU run repeats to the bit in any case)."""
    tensorboard: bool = False
    """Also write TensorBoard events (extra `tensorboard`)."""
    limits: bool = True
    """When training ends, measure where the model can be trusted, on the training and the validation set, and write it
    into the model file (docs/uncertainty.md); costs about a validation on each."""
    checkpoint_every: Count = 500
    """Steps between checkpoints, beside those at every validation."""


class TrainConfig(_Strict, frozen=True):
    """One training: `mlanet train config.yaml`."""

    data: DataConfig
    budget: BudgetConfig
    run: RunConfig
    model: str | dict[str, Any] | None = None
    """A preset, a YAML of one's own, or the model's keys themselves; `mlanet_l2` if not given.
    With `start_from`: only the keys that change, or nothing."""
    references: str | dict[str, float] = "auto"
    """E₀: auto | isolated | lstsq | ridge | none | a file | {element: eV}. auto: the isolated atoms in the data where
    there is one of every element, else a least-squares fit, whose energies are not cohesive energies."""
    loss: LossConfig = LossConfig()
    """Weights and form of the loss."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """AdamW or Muon."""
    schedule: ScheduleConfig = ScheduleConfig()
    """Learning rate over time."""
    start_from: str | None = None
    """A model file to go on from (fine-tuning); also a direct-force model into a conservative one."""
    keep_statistics: bool = True
    """With `start_from`: keep the old references and scales; false fits them to the new data."""
    move_references: bool = False
    """With `start_from`: move the old references per element by what the old model's energies of the new data are
    wrong, which takes it to the data's level of theory."""
    new_elements: bool = False
    """With `start_from`: let the data bring elements that the old model does not know."""
    replay: tuple[str, ...] = ()
    """With `start_from`: files of the old model's own data, trained on beside the new, against forgetting; their
    energies move along with the references."""
    replay_limit: Count | None = None
    """Read so many structures of `replay`, drawn by `data.seed`; all if not given."""
    replay_share: Part = 0.5
    """Share of old structures in an epoch, which holds all new structures once and draws the old ones anew."""
    freeze: tuple[str, ...] = ()
    """Beginnings of names of weights that are not trained, e.g. `embedding`, `layers.0`."""

    def execution(self, device: object) -> Execution:
        """How a step is computed, on the device that `run.device` stands for."""
        run = self.run
        return Execution(
            run.dtype, str(device), run.kernels, run.matmul, run.compiled, max_memory=self.budget.max_memory
        )


def read_train_config(path: str | os.PathLike[str], overrides: Iterable[str] = ()) -> TrainConfig:
    """A training's YAML with `key=value` words; words below `model.` change the preset that the YAML names.

    Raises:
        ConfigError: the file, a word or their outcome cannot be understood.
    """
    words = list(overrides)
    inside = [word for word in words if word.startswith("model.")]
    data = with_overrides(read_yaml(path), [word for word in words if word not in inside])
    preset = data.get("model") or (None if data.get("start_from") else DEFAULT_MODEL)
    if inside and isinstance(preset, str):
        data["model"] = to_data(read_model_config(preset))
    return parse(with_overrides(data, inside), TrainConfig, str(path), {"model.": ModelConfig})


def model_config(config: TrainConfig, base: ModelSettings | None = None) -> ModelSettings:
    """The network that a training asks for; `base` is that of `start_from`."""
    if config.model is None:
        return base if base is not None else read_model_config(DEFAULT_MODEL)
    if isinstance(config.model, str):
        return read_model_config(config.model)
    if "model" in config.model:
        return parse(config.model, ModelConfig, "model", {"": TrainConfig})
    if base is None:
        raise ConfigError("model: the key 'model' (e.g. 'model: mlanet') is missing, or give a preset's name")
    words = [f"{key}={msgspec.json.encode(value).decode()}" for key, value in config.model.items()]
    return parse(with_overrides(to_data(base), words), ModelConfig, "model", {"": TrainConfig})
