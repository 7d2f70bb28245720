"""A simulation that is ended at any write goes on; its files are whole; its checkpoint is signed; it has one owner."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.io import read
from safetensors import numpy as safetensors

from mlanet.dynamics import DynamicsSettings, simulate, state
from mlanet.dynamics import run as running
from mlanet.errors import CheckpointError, ConfigError, GeometryError
from mlanet.ownership import owned

FILES = ("trajectory.extxyz", "log.csv")


class Killed(BaseException):
    """The process is gone: nothing catches it, nothing is tidied up by us."""


class Springs(Calculator):
    """Each atom on a spring of its own: forces depend on the positions alone, to the bit."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 - as in ASE

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:  # type: ignore[no-untyped-def]
        super().calculate(atoms, properties, system_changes)
        away = atoms.positions - bulk("Cu", cubic=True).positions
        self.results = {"energy": float((away**2).sum()), "forces": -2 * away}


def copper() -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=0)
    atoms.calc = Springs()
    return atoms


def settings(**changes: Any) -> DynamicsSettings:
    return DynamicsSettings(**{"ensemble": "langevin", "steps": 6, "every": 2, "checkpoint_every": 3} | changes)


def run(folder: Path, **words: Any) -> None:
    list(simulate(copper(), settings(), folder, **words))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a run that was left alone."""
    folder = tmp_path_factory.mktemp("whole") / "md"
    run(folder)
    return folder


def test_killed_at_any_write_it_can_start_or_go_on(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before or after each append and each checkpoint, half a frame written or not: the same command with `--resume`
    where a checkpoint stands, without it where none does, ends with the files of a run left alone."""
    for after in (False, True):
        for count in range(1, 40):
            folder, calls = tmp_path / f"{after}{count}", []

            def counted(call: Callable[..., None], torn: bool) -> Callable[..., None]:
                def inner(path: Path, *rest: Any) -> None:
                    calls.append(path)  # noqa: B023 - used within this turn
                    if len(calls) == count and not after:  # noqa: B023
                        if torn:
                            with open(path, "ab") as file:
                                file.write(rest[0][: len(rest[0]) // 2])
                        raise Killed
                    call(path, *rest)
                    if len(calls) == count:  # noqa: B023
                        raise Killed

                return inner

            with monkeypatch.context() as patch:
                patch.setattr(running, "append_whole", counted(running.append_whole, True))
                patch.setattr(running.state, "write", counted(state.write, False))
                try:
                    run(folder)
                    break
                except Killed:
                    pass
            run(folder, resume=(folder / "checkpoint.safetensors").exists())
            for name in FILES:
                assert (folder / name).read_bytes() == (whole / name).read_bytes(), (after, count)
        else:
            pytest.fail("the run never came to its end")
        assert count > 8


def test_short_writes_are_completed(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that takes half of each write, and says so: every frame is whole."""
    right = os.write
    monkeypatch.setattr(os, "write", lambda file, data: right(file, data[: max(1, len(data) // 2)]))
    run(tmp_path / "md")
    for name in FILES:
        assert (tmp_path / "md" / name).read_bytes() == (whole / name).read_bytes()
    assert len(read(tmp_path / "md" / "trajectory.extxyz", ":")) == 4


def test_two_simulations_in_one_folder(tmp_path: Path) -> None:
    """The second is refused while the first lives, started anew or resumed; nothing of the first is touched."""
    first = simulate(copper(), settings(), tmp_path / "md")
    next(first)
    before = {one.name: one.read_bytes() for one in (tmp_path / "md").iterdir()}
    for resume in (False, True):
        with pytest.raises(ConfigError, match=r"mlanet md \(process \d+ on .*this very process"):
            run(tmp_path / "md", resume=resume)
    assert {one.name: one.read_bytes() for one in (tmp_path / "md").iterdir()} == before
    first.close()
    run(tmp_path / "md", resume=True)
    with owned(tmp_path / "md", "mlanet train"), pytest.raises(ConfigError, match="mlanet train"):
        run(tmp_path / "md", resume=True)


def test_a_structure_that_is_refused_leaves_nothing(tmp_path: Path) -> None:
    """So that the command can be given again."""
    atoms = copper()

    class Refusing(Springs):
        def calculate(self, *_: Any) -> None:
            raise GeometryError("atoms overlap")

    atoms.calc = Refusing()
    with pytest.raises(GeometryError):
        list(simulate(atoms, settings(), tmp_path / "md"))
    assert not (tmp_path / "md").exists()


def test_no_flipped_bit_is_accepted(whole: Path, tmp_path: Path) -> None:
    """A checkpoint with one changed bit, anywhere, is refused; the right one is not."""
    good = (whole / "checkpoint.safetensors").read_bytes()
    damaged = tmp_path / "checkpoint.safetensors"
    for bit in random.Random(0).sample(range(8 * len(good)), 1000):
        changed = bytearray(good)
        changed[bit // 8] ^= 1 << bit % 8
        damaged.write_bytes(changed)
        with pytest.raises(CheckpointError, match="not a checkpoint of a simulation"):
            state.read(damaged, settings(), "", copper())
    damaged.write_bytes(good)
    assert state.read(damaged, settings(), "", copper()).step == 6


def test_checkpoints_without_a_digest_still_load(tmp_path: Path) -> None:
    """As earlier versions wrote them."""
    run(tmp_path / "md")
    path = tmp_path / "md" / "checkpoint.safetensors"
    now = state.read(path, settings(), "", copper())
    document = {"schema": 1, "settings": json.loads(json.dumps(state.to_data(settings()))), "potential": ""}
    document |= {"step": now.step, "rng": now.rng, "sizes": now.sizes}
    arrays = {name: np.array(array, order="C") for name, array in now.arrays.items()}
    path.write_bytes(safetensors.save(arrays, metadata={"mlanet_dynamics": json.dumps(document)}))
    list(simulate(copper(), settings(steps=8), tmp_path / "md", resume=True))
    list(simulate(copper(), settings(steps=8), tmp_path / "other"))
    assert (tmp_path / "md" / FILES[0]).read_bytes() == (tmp_path / "other" / FILES[0]).read_bytes()
