"""Keys of other packages' configurations, and which of ours does the same: for answers to those who come from there."""

from __future__ import annotations

MACE, NEQUIP = "MACE", "NequIP"

OTHER_KEYS: dict[str, tuple[str, str]] = {
    "E0s": (MACE, "references: isolated, lstsq (what average is there), or {H: -13.6, …} in eV"),
    "MLP_irreps": (MACE, "model.hidden"),
    "avg_num_neighbors": (f"{MACE}, {NEQUIP}", "found from the training data"),
    "batch_size": (f"{MACE}, {NEQUIP}", "budget.max_structures and budget.max_edges"),
    "checkpoints_dir": (MACE, "run.folder"),
    "chemical_species": (NEQUIP, "found from the training data"),
    "chemical_symbols": (NEQUIP, "found from the training data"),
    "clip_grad": (MACE, "optimizer.clip"),
    "compute_stress": (MACE, "data.require: [energy, forces, stress]; stress is learnt where there are labels"),
    "cutoff": (NEQUIP, "model.cutoff, Å"),
    "cutoff_radius": (NEQUIP, "model.cutoff, Å"),
    "dataset_file_name": (NEQUIP, "data.train"),
    "dataset_seed": (NEQUIP, "data.seed"),
    "default_dtype": (f"{MACE}, {NEQUIP}", "run.dtype"),
    "early_stopping_patience": (NEQUIP, "budget.early_stop"),
    "early_stopping_patiences": (NEQUIP, "budget.early_stop"),
    "ema_decay": (f"{MACE}, {NEQUIP}", "optimizer.ema"),
    "energy_key": (MACE, "data.labels.energy"),
    "energy_weight": (MACE, "loss.energy"),
    "eval_interval": (MACE, "budget.validate_every, in steps"),
    "forces_key": (MACE, "data.labels.forces"),
    "forces_weight": (MACE, "loss.forces"),
    "foundation_model": (MACE, "start_from: a model file or a packaged model"),
    "hidden_irreps": (MACE, "model.irreps"),
    "initial_model": (NEQUIP, "start_from: a model file or a packaged model"),
    "interaction": (MACE, "model.message and model.attention"),
    "learning_rate": (NEQUIP, "optimizer.lr"),
    "l_max": (NEQUIP, "model: mlanet_l1, mlanet_l2 or mlanet_l3; or model.irreps"),
    "loss_coeffs": (NEQUIP, "loss.energy, loss.forces and loss.stress"),
    "lr_factor": (MACE, "schedule.factor"),
    "lr_scheduler_name": (NEQUIP, "schedule.kind"),
    "lr_scheduler_patience": (NEQUIP, "schedule.patience"),
    "max_L": (MACE, "model: mlanet_l1, mlanet_l2 or mlanet_l3; or model.irreps"),
    "max_ell": (MACE, "model: mlanet_l1, mlanet_l2 or mlanet_l3; or model.irreps"),
    "max_epochs": (NEQUIP, "budget.epochs"),
    "max_num_epochs": (MACE, "budget.epochs"),
    "model_dtype": (NEQUIP, "run.dtype"),
    "n_train": (NEQUIP, "data.train_limit"),
    "n_val": (NEQUIP, "data.valid_fraction, or files in data.valid"),
    "name": (MACE, "run.folder"),
    "num_basis": (NEQUIP, "model.radial_functions"),
    "num_bessels": (NEQUIP, "model.radial_functions"),
    "num_channels": (MACE, "model.irreps; model.channels for LEIGNN"),
    "num_features": (NEQUIP, "model.irreps; model.channels for LEIGNN"),
    "num_interactions": (MACE, "model.layers"),
    "num_layers": (NEQUIP, "model.layers"),
    "num_radial_basis": (MACE, "model.radial_functions"),
    "pair_repulsion": (MACE, "model.repulsion: zbl"),
    "per_species_rescale_shifts": (NEQUIP, "references"),
    "r_max": (f"{MACE}, {NEQUIP}", "model.cutoff, Å"),
    "restart_latest": (MACE, "mlanet train … --resume"),
    "root": (NEQUIP, "run.folder"),
    "run_name": (NEQUIP, "run.folder"),
    "scheduler": (MACE, "schedule.kind"),
    "scheduler_patience": (MACE, "schedule.patience"),
    "start_stage_two": (MACE, "loss.late_energy_factor, in the last fifth of the budget"),
    "start_swa": (MACE, "loss.late_energy_factor, in the last fifth of the budget"),
    "stress_key": (MACE, "data.labels.stress"),
    "stress_weight": (MACE, "loss.stress"),
    "swa": (MACE, "loss.late_energy_factor, in the last fifth of the budget"),
    "test_file": (MACE, "mlanet evaluate FILE --model …, or data.test of a sweep"),
    "train_file": (MACE, "data.train"),
    "train_file_path": (NEQUIP, "data.train"),
    "type_names": (NEQUIP, "found from the training data"),
    "use_ema": (NEQUIP, "optimizer.ema; 0 for none"),
    "val_file_path": (NEQUIP, "data.valid"),
    "valid_batch_size": (MACE, "budget.max_edges"),
    "valid_file": (MACE, "data.valid"),
    "validation_batch_size": (NEQUIP, "budget.max_edges"),
}
"""Word -> (whose, what to say instead)."""


def ours_for(key: str) -> str:
    """`"; that of MACE is here …"`, or nothing for a word of nobody's.

    >>> ours_for("max_num_epochs")
    '; what it is in MACE is here budget.epochs'
    """
    if key not in OTHER_KEYS:
        return ""
    whose, ours = OTHER_KEYS[key]
    return f"; what it is in {whose} is here {ours}"
