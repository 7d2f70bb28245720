"""Commands with several processes write what one process writes."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

needs_ray = [pytest.mark.slow, pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="needs ray")]
CREWS = [("--workers", 2), pytest.param(("--ray", "local", "--workers", 2), marks=needs_ray)]


def some_crystals(path: str) -> None:
    """Among them two that cannot be used."""
    found = [bulk(symbol, cubic=True, a=a) for symbol, a in (("Cu", 3.6), ("Al", 4.1), ("Al", 4.0), ("Fe", 2.9))] * 2
    found[5] = Atoms("Cu2", [[0, 0, 0], [0, 0, 0.05]], cell=[4, 4, 4], pbc=True)
    for seed, atoms in enumerate(found):
        atoms.rattle(0.02, seed=seed)
    ase.io.write(path, found)


def rounded(value):
    """Without what batches and processes make of the last digits of float32."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return round(value, 3) + 0.0 if isinstance(value, float) else value


@pytest.mark.parametrize("crew", CREWS)
def test_files_are_those_of_one_process(mlanet, model, crew) -> None:
    """Structures, tables, errors and exit status of predict and relax, batched or not."""
    some_crystals("set.extxyz")
    words = ("set.extxyz", "-m", model, "--keep-going", "--json", "-o")
    alone = mlanet("predict", *words, "alone.extxyz", "--csv", "alone.csv")
    many = mlanet("predict", *words, "many.extxyz", "--csv", "many.csv", *crew)
    assert alone.status == many.status == 1 and "overlap" in many.err
    assert rounded(alone.document) == rounded(many.document)
    for kind in ("extxyz", "csv"):
        assert Path(f"alone.{kind}").read_bytes() == Path(f"many.{kind}").read_bytes()
    words = (*words[:3], "--index", ":", "--steps", 3, "--cell", "full", *words[3:])
    alone = mlanet("relax", *words, "one.extxyz")
    for more in ((), ("--batched",)):
        many = mlanet("relax", *words, "two.extxyz", *crew, *more)
        assert alone.status == many.status == 1 and alone.document["refused"] == many.document["refused"]
        for one, other in zip(alone.document["relaxed"], many.document["relaxed"], strict=True):
            assert one["structure"] == other["structure"] and one["steps"] == other["steps"]
            assert one["energy_eV"] == pytest.approx(other["energy_eV"], abs=1e-9)
        for one, other in zip(ase.io.iread("one.extxyz"), ase.io.iread("two.extxyz"), strict=True):
            assert np.allclose(one.positions, other.positions, atol=1e-8)
            assert np.allclose(one.get_forces(), other.get_forces(), atol=1e-8)


def test_errors_and_properties_are_those_of_one_process(mlanet, model, labelled) -> None:
    """evaluate; elastic, whose second run goes on with the first, whoever computed that."""
    alone, many = (mlanet("evaluate", labelled, "-m", model, "--json", *more) for more in ((), CREWS[0]))
    assert rounded(alone.document) == rounded(many.document)
    some_crystals("set.extxyz")
    words = ("elastic", "set.extxyz", "-m", model, "--index", ":", "--as-given", "--keep-going", "--json")
    first = mlanet(*words, "-o", "many", *CREWS[0])
    second = mlanet(*words, "-o", "one")
    assert first.status == second.status == 1 and first.document["refused"] == second.document["refused"]
    lines = [Path(f"{folder}/results.jsonl").read_text().splitlines() for folder in ("many", "one")]
    prints = [[json.loads(line)["print"] for line in file] for file in lines]
    assert prints[0] == prints[1] and rounded(first.document["results"]) == rounded(second.document["results"])
    assert Path("many/results.csv").read_text().count("\n") == 6
    again = mlanet(*words, "-o", "many")
    assert again.document["results"] == first.document["results"]
    assert Path("many/results.jsonl").read_text().splitlines() == lines[0]


def test_processes_do_not_share_a_gpu(mlanet, model) -> None:
    some_crystals("set.extxyz")
    assert "share its GPU" in mlanet("predict", "set.extxyz", "-m", model, "--workers", 2, "--device", "cuda").err
