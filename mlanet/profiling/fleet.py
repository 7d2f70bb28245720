"""The workers from outside: one process per model, asked in turn."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from ase import Atoms

from mlanet.checkpoint import model_path
from mlanet.devices import device_called
from mlanet.errors import ConfigError, MLANetError
from mlanet.execution import Execution
from mlanet.profiling.ours import configuration
from mlanet.profiling.subject import SINGLE, Request
from mlanet.profiling.worker import adapter_table

OUT_OF_MEMORY = "out of memory"
TOO_SLOW = "too slow"


class WorkerError(MLANetError):
    """A command that a worker could not do; `kind` is "out of memory", "too slow", "ended" or "error"."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Settings:
    """What all models of one profile share.

    - execution: how they compute · threads: of each model's process
    - limit_gib: memory that a process may take beyond its model, or None
    - peers: the adapter file for names that are not ours, or None
    - limit_s: seconds that a process may work before it is ended, or None; see `Remote.renew`
    """

    execution: Execution = SINGLE
    threads: int = 1
    limit_gib: float | None = None
    peers: Path | None = None
    limit_s: float | None = None


@dataclass
class Remote:
    """A worker process with one model in it."""

    name: str
    settings: Settings
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.left, self.timed_out = self.settings.limit_s, False
        self.adapter, python = _home(self.name, self.settings.peers)
        root = str(Path(__file__).resolve().parents[2])
        here = os.environ | {"OMP_NUM_THREADS": str(self.settings.threads), "PYTHONWARNINGS": "ignore"}
        here["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        self.process = subprocess.Popen(
            [python, "-m", "mlanet.profiling.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get("MLANET_WORKER_TRACEBACK") else subprocess.DEVNULL,
            text=True,
            env=here,
        )

    def build(self, species: tuple[int, ...], neighbours: float) -> None:
        """Make the model."""
        settings = self.settings
        request = Request(species, neighbours, settings.execution)
        self.facts = self.ask(
            "build",
            model=self.name,
            adapter=self.adapter,
            request=asdict(request),
            threads=settings.threads,
            limit_gib=settings.limit_gib,
        )

    def ask(self, do: str, **command: Any) -> dict[str, Any]:
        """One command, one answer.

        Raises:
            WorkerError: what the worker reports, or that it has ended (killed for memory or time, say).
        """
        started = time.perf_counter()
        alarm = threading.Timer(self.left, self._end) if self.left is not None else None
        if alarm is not None:
            alarm.start()
        try:
            return self._answer(do, command)
        finally:
            if alarm is not None and self.left is not None:
                alarm.cancel()
                self.left = max(0.0, self.left - (time.perf_counter() - started))

    def renew(self) -> None:
        """Give it all of its time again."""
        self.left = self.settings.limit_s

    def too_slow(self) -> str:
        """The failure of a row whose time is up."""
        return f"{TOO_SLOW}: > {self.settings.limit_s:g} s"

    def _end(self) -> None:
        self.timed_out = True
        self.process.kill()

    def _answer(self, do: str, command: dict[str, Any]) -> dict[str, Any]:
        sender, receiver = self.process.stdin, self.process.stdout
        assert sender is not None and receiver is not None
        try:
            sender.write(json.dumps({"do": do, **command}) + "\n")
            sender.flush()
            line = receiver.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise self._ended()
        answer: dict[str, Any] = json.loads(line)
        if "failure" in answer:
            raise WorkerError(answer["failure"], answer["kind"])
        return answer

    def _ended(self) -> WorkerError:
        status = self.process.wait()
        if self.timed_out:
            return WorkerError(self.too_slow().partition(": ")[2], TOO_SLOW)
        if status == -9:
            return WorkerError("the process was killed, most likely for its memory", OUT_OF_MEMORY)
        return WorkerError(f"the process ended with status {status}; MLANET_WORKER_TRACEBACK=1 shows why", "ended")

    def close(self) -> None:
        """End the process."""
        for pipe in (self.process.stdin, self.process.stdout):
            _close(pipe)
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def require_known(models: Sequence[str], settings: Settings) -> None:
    """Refuse a name, setting or device that does not exist, before any process is started.

    Raises:
        ConfigError, CheckpointError: says which.
    """
    device_called(settings.execution.device)
    for name in models:
        if _home(name, settings.peers)[0]:
            continue
        if name.partition("@")[0].endswith(".safetensors"):
            model_path(name.partition("@")[0])
        else:
            configuration(name)


def as_data(atoms: Atoms) -> dict[str, Any]:
    """A structure as plain lists."""
    data = {"numbers": atoms.numbers.tolist(), "positions": atoms.positions.tolist()}
    return {**data, "cell": atoms.cell.array.tolist(), "pbc": atoms.pbc.tolist()}


def _close(pipe: IO[str] | None) -> None:
    if pipe is not None:
        try:
            pipe.close()
        except BrokenPipeError:
            return


def _home(name: str, peers: Path | None) -> tuple[str, str]:
    """The adapter file ("" for our own models) and the Python interpreter for a model."""
    if peers is None:
        return "", sys.executable
    if not peers.is_file():
        raise ConfigError(f"{peers}: no such file; it should hold the adapters of other packages")
    table = adapter_table(peers)
    base = name.partition(":")[0]
    if base not in table:
        return "", sys.executable
    entry = table[base]
    python = peers.resolve().parent.parent / ".peers" / entry.environment / "bin" / "python"
    if python.is_file():
        return str(peers.resolve()), str(python)
    missing = [module for module in entry.requires if importlib.util.find_spec(module) is None]
    if missing:
        raise ConfigError(
            f"{base}: {', '.join(missing)} is not installed; python benchmarks/environments.py {base} makes a place "
            f"for it in {python.parent.parent}"
        )
    return str(peers.resolve()), sys.executable
