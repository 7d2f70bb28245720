"""Commands that are stopped: status 130 or 143, and one sentence on what is kept and how to go on."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import ase.io
import pytest
from ase.build import bulk

from mlanet.dynamics.run import _Run

ELEMENTAL = ("--model", "elemental")
GOING_ON = {
    "md": ("--steps", "30", "--every", "1", "--output", "out"),
    "diffusion": ("--temperatures", "300,400", "--time", "0.1", "--every", "1", "--output", "out"),
}
ENDS = {
    "predict": ("mlanet.workflows.predict.predict_frames", ()),
    "evaluate": ("mlanet.workflows.evaluate.evaluate_frames", ()),
    "check": ("mlanet.workflows.check.check_model", ()),
    "eos": ("mlanet.properties.equation_of_state", ("--output", "out")),
    "elastic": ("mlanet.properties.elasticity", ("--output", "out")),
    "phonon": ("mlanet.properties.phonons", ("--output", "out")),
}
"""What is interrupted in each, and further words."""


@pytest.fixture(autouse=True)
def crystal(tmp_path: Path) -> None:
    ase.io.write(tmp_path / "si.extxyz", bulk("Si", a=5.45))


@pytest.mark.parametrize("command", ENDS)
def test_ctrl_c_is_told_once(mlanet, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """What is kept, by name, or that nothing is; the command to go on with is the one that was typed."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    place, words = ENDS[command]
    monkeypatch.setattr(place, interrupted)
    done = mlanet(command, "si.extxyz", *ELEMENTAL, *words)
    assert done.status == 130 and done.out == "" and done.err.count("stopped by Ctrl-C") == 1, done.err
    kept = f"what was finished is in out; go on with: mlanet {command} si.extxyz --model elemental --output out"
    assert (kept if words else "nothing is kept but what is named above") in done.err


@pytest.mark.parametrize("command", GOING_ON)
@pytest.mark.parametrize(
    ("number", "status", "said"),
    [(signal.SIGTERM, 143, "stopped by SIGTERM"), (signal.SIGINT, 130, "stopped by Ctrl-C")],
    ids=["terminated", "interrupted"],
)
def test_dynamics_that_are_stopped_say_so_and_go_on(
    mlanet, monkeypatch: pytest.MonkeyPatch, command: str, number: int, status: int, said: str
) -> None:
    """No later run is begun, no answer of half a run has status 0; the command that is named ends the run."""
    record, calls = _Run.record, []

    def stopping(run: _Run) -> object:
        calls.append(run.step)
        if len(calls) == 3:
            os.kill(os.getpid(), number)
        return record(run)

    monkeypatch.setattr(_Run, "record", stopping)
    words = (command, "si.extxyz", *ELEMENTAL, *GOING_ON[command], "--no-picture")
    done = mlanet(*words)
    assert done.status == status and done.err.count(said) == 1 and "Traceback" not in done.err, done.err
    again = done.err.rsplit("go on with: mlanet ", 1)[1].split()
    assert len(calls) == 3 and again[: len(words)] == list(words)
    assert mlanet(*again).status == 0
