"""`mlanet info`, `presets` and `doctor`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ase.build import bulk
from ase.io import write

from mlanet.cli.doctor import remedies
from mlanet.config import preset_names, preset_path


def test_info_of_a_model_tells_all_that_matters(mlanet, model) -> None:
    """Elements, cutoff, size, conservative or not, card and digest."""
    document = mlanet("info", model, "--json").document
    assert document["elements"] == ["Al", "Cu"] and document["cutoff_A"] == 3.5 and document["conservative"] is True
    assert document["parameters"] > 0 and document["card"] == {"data": "none"} and len(document["digest"]) == 64
    text = mlanet("info", model).out
    for word in ("Al Cu", "3.5", "card.data", document["digest"]):
        assert word in text


@pytest.mark.parametrize("name", preset_names())
def test_info_of_every_preset(mlanet, name: str) -> None:
    """Every packaged preset can be built and is described."""
    document = mlanet("info", name, "--json").document
    assert document["preset"] == name and document["parameters_for_one_element"] > 0


@pytest.mark.parametrize("name", ["mlanet_l2", "my.yaml"])
def test_a_configuration_given_as_a_model_says_that_it_is_untrained(mlanet, name: str) -> None:
    """Wherever a model is asked for; a preset's name is no misspelt model."""
    Path("my.yaml").write_text(mlanet("presets", "leignn").out)
    write("al.extxyz", bulk("Al"))
    for words in (["predict", "al.extxyz"], ["check"], ["relax", "al.extxyz"], ["md", "al.extxyz"]):
        outcome = mlanet(*words, "--model", name)
        assert outcome.status == 3 and f"{name} is a configuration, which has no trained weights" in outcome.err
        assert "mlanet train" in outcome.err and "elemental" in outcome.err


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "al.extxyz", "-m", "elemental"],
        ["check", "-m", "elemental"],
        ["relax", "al.extxyz", "-m", "elemental"],
        ["md", "al.extxyz", "-m", "elemental"],
        ["evaluate", "al.extxyz", "-m", "elemental"],
        ["profile", "compare", "leignn"],
        ["profile", "predict", "leignn"],
    ],
)
def test_a_device_that_does_not_exist_is_told_which_do(mlanet, words: list[str]) -> None:
    """`--device gpu`, in every command that has one."""
    write("al.extxyz", bulk("Al"))
    outcome = mlanet(*words, "--device", "gpu")
    assert outcome.status == 2 and "device 'gpu'" in outcome.err and "cpu, cuda and cuda:N" in outcome.err


def test_a_preset_can_be_printed_changed_and_used(mlanet) -> None:
    """`mlanet presets NAME > my.yaml` gives a configuration that works under its own name."""
    text = mlanet("presets", "mlanet_l1").out
    Path("my.yaml").write_text(text.replace("layers: 3", "layers: 1"))
    document = mlanet("info", "my.yaml", "--json").document
    assert document["config"]["layers"] == 1
    Path("my.yaml").write_text(text.replace("layers:", "leyers:"))
    outcome = mlanet("info", "my.yaml")
    assert outcome.status == 2 and "my.yaml" in outcome.err and "did you mean 'layers'" in outcome.err


@pytest.mark.parametrize("irreps", ["64x0e+32x1o", "hello", "8x0e+8x1e", "8x0e", "8x0e+8x1o+8x2e+8x3o+8x4e"])
def test_wrong_irreps_say_what_is_wrong(mlanet, irreps: str) -> None:
    """An irreps string that is not supported is quoted, with what is."""
    Path("my.yaml").write_text(f"model: mlanet\nirreps: {irreps}\n")
    outcome = mlanet("info", "my.yaml")
    assert outcome.status == 2 and irreps in outcome.err and "my.yaml" in outcome.err


def test_presets_lists_all(mlanet) -> None:
    """The table and the JSON document name every preset."""
    assert set(mlanet("presets", "--json").document) == set(preset_names())
    text = mlanet("presets").out
    assert "128x0e+128x1o" in text and "│ -" not in text
    for name in preset_names():
        purpose = preset_path(name).read_text().splitlines()[0]
        assert purpose.startswith("# ") and purpose[2:] in text
    assert all(name in text for name in preset_names())
    outcome = mlanet("presets", "mlanet_l22")
    assert outcome.status == 2 and "did you mean" in outcome.err


def test_doctor_works_here(mlanet) -> None:
    """The installation that runs the tests works, and what is said of it fits a terminal of 80 columns."""
    document = mlanet("doctor", "--json").document
    assert document["a small computation"] == "works"
    assert {"torch", "e3nn", "ase", "devices", "threads"} <= set(document)
    text = mlanet("doctor").out
    assert all(name in text for name in document)
    assert max(map(len, text.splitlines())) <= 80


WELL = {"fused kernels": "work, made by g++", "devices": "cpu, A card", "threads": 2, "cores": 2}


@pytest.mark.parametrize(
    ("fault", "remedy"),
    [
        ({"fused kernels": "not here: no compiler"}, "C\\+\\+ compiler"),
        ({"devices": "cpu"}, "CUDA build"),
        ({"threads": 1}, "OMP_NUM_THREADS"),
        ({"a small computation": "net force 3 eV/Å"}, "tested versions"),
        ({"vesin": "not installed"}, "vesin.*pip install"),
    ],
)
def test_doctor_says_what_to_do(fault: dict[str, object], remedy: str) -> None:
    """One remedy for each thing that is missing, none where all is well."""
    well = {**WELL, "a small computation": "works", "vesin": "0.6.2"}
    assert not list(remedies(well))
    (said,) = remedies(well | fault)
    assert re.search(remedy, said)
