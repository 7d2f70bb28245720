"""LEIGNN through the same commands as MLANet: none of them knows which model it serves."""

from __future__ import annotations

from pathlib import Path

import pytest

TRAIN = """
data: {{train: [{file}], valid_fraction: 0.2}}
model: {{model: leignn, channels: 8, layers: 1, cutoff: 3.5, radial_functions: 6{more}}}
budget: {{steps: 4, max_structures: 2}}
run: {{folder: {folder}}}
"""


@pytest.mark.parametrize("forces", ["gradient", "direct"])
def test_train_predict_evaluate_check(mlanet, labelled: Path, forces: str) -> None:
    """A training leaves a model that the other commands take; direct forces without stress leave the stress out."""
    more = ", forces: direct, direct_stress: none" if forces == "direct" else ""
    Path("train.yaml").write_text(TRAIN.format(file=labelled, folder="run", more=more))
    assert mlanet("train", "train.yaml", "--dry-run").status == 0
    assert mlanet("train", "train.yaml").status == 0
    model = "run/model.safetensors"
    assert mlanet("info", model, "--json").document["config"]["model"] == "leignn"
    predicted = mlanet("predict", labelled, "-m", model, "-o", "out.extxyz", "--json").document
    assert predicted["conservative"] is (forces == "gradient")
    assert all((one["stress_GPa"] is None) is (forces == "direct") for one in predicted["predictions"])
    errors = mlanet("evaluate", labelled, "-m", model, "--json").document["errors"]["quantities"]
    assert errors["forces"]["mae"] > 0
    assert ("stress" in errors) is (forces == "gradient")
    if forces == "gradient":  # which promises more laws
        assert mlanet("check", "-m", model, "--json").document["broken"] == 0


def test_direct_first_then_conservative(mlanet, labelled: Path) -> None:
    """A direct model is fine-tuned with `forces: gradient`; only the heads are left out."""
    Path("train.yaml").write_text(TRAIN.format(file=labelled, folder="direct", more=", forces: direct"))
    assert mlanet("train", "train.yaml").status == 0
    Path("tune.yaml").write_text(
        f"data: {{train: [{labelled}], valid_fraction: 0.2}}\nmodel: {{forces: gradient}}\n"
        "start_from: direct/model.safetensors\nbudget: {steps: 2, max_structures: 2}\nrun: {folder: tuned}\n"
    )
    result = mlanet("train", "tune.yaml")
    assert result.status == 0
    config = mlanet("info", "tuned/model.safetensors", "--json").document["config"]
    assert config["forces"] == "gradient" and config["channels"] == 8
