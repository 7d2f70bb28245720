"""One model in a process of its own: `python -m mlanet.profiling.worker` answers commands on its standard input.

A model that runs out of memory, or whose package clashes with ours, harms no other. The process may belong to another
environment, so only torch, numpy and ase are imported here; our own models are imported when one is asked for.
A command and its answer are one line of JSON each: {"do": "time", "key": "Si:64", "mode": "infer"} -> {"ms": 12.3};
a failure is {"failure": …, "kind": "out of memory" | "error"}.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import re
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch
from ase import Atoms

from mlanet import memory
from mlanet.execution import Execution
from mlanet.profiling.clock import Stopwatch
from mlanet.profiling.steps import Steps, slope_error
from mlanet.profiling.subject import Answering, Own, Request, Subject

WAKING = 500.0
"""ms. A process that has waited for its turn finds cold caches and threads asleep, which longer calls do not feel."""


class Worker:
    """The commands; each returns what goes into the answer."""

    subject: Subject

    def __init__(self) -> None:
        self.device = torch.device("cpu")
        self.loaded: dict[str, Steps] = {}
        self.watch = Stopwatch(self.device)
        self.idle = 0

    def build(
        self, model: str, adapter: str, request: dict[str, Any], threads: int, limit_gib: float | None
    ) -> dict[str, Any]:
        """Make the model; everything that is measured later is above what the process holds now."""
        torch.set_num_threads(threads)
        execution = Execution(**request["execution"])
        wanted = Request(tuple(request["species"]), request["neighbours"], execution)
        self.device = torch.device(wanted.device)
        self.watch = Stopwatch(self.device)
        self.subject = adapted(model, Path(adapter), wanted) if adapter else ours(model, wanted)
        if limit_gib is not None:
            limit_memory(limit_gib, self.device)
        parameters = sum(parameter.numel() for parameter in self.subject.module.parameters())
        facts = {"cutoff_A": self.subject.cutoff, "parameters": parameters, "l_max": degree_of(self.subject, model)}
        return {**facts, "machine": machine(self.device)}

    def load(self, key: str, structures: list[dict[str, Any]]) -> dict[str, Any]:
        """Inputs of a batch of structures, neighbour list included."""
        inputs = self.subject.prepare([_atoms(structure) for structure in structures])
        self.loaded[key] = Steps(self.subject, inputs)
        return {"edges": self.subject.edges(inputs)}

    def forget(self, key: str) -> dict[str, Any]:
        """Let inputs go."""
        self.loaded.pop(key, None)
        return {}

    def check(self, structures: list[dict[str, Any]]) -> dict[str, Any]:
        """How far the forces are from the energy's slope."""
        return {"slope_error": slope_error(self.subject, [_atoms(structure) for structure in structures])}

    def time(self, key: str, mode: str) -> dict[str, Any]:
        """Both clocks of one call; of a second one where the first is short, since that also wakes the process."""
        run = self.loaded[key].call(mode)
        clocks = self.watch.clocks(run)
        return (clocks if clocks.ms > WAKING else self.watch.clocks(run))._asdict()

    def phases(self, key: str, structures: list[dict[str, Any]]) -> dict[str, Any]:
        """Milliseconds of the neighbour list, of the parts of inference and of those of a training step."""
        steps, given = self._in_torch(key), [_atoms(structure) for structure in structures]
        listed = self.watch.time(lambda: self.subject.prepare(given))
        infer = self.watch.phases(steps.infer)
        train = self.watch.phases(steps.gradient)
        return {
            "neighbour list": listed,
            **{f"infer: {name}": value for name, value in infer.items()},
            **{f"train: {name}": value for name, value in train.items()},
            "train: optimiser": self.watch.time(steps.update),
        }

    def memory(self, key: str, mode: str) -> dict[str, Any]:
        """Bytes at the peak of a call, above the model and its inputs: of tensors, of the process or of the GPU."""
        steps = self.loaded[key]
        run = steps.call(mode)
        peaks: dict[str, Any] = {}
        if isinstance(self.subject, Answering) and mode == "infer":
            self.subject.forget()  # its memory is no tensor, and stays for the next call
        else:
            steps.optimiser.state.clear()
            peaks["tensor_bytes"] = memory.peak_bytes(run)
            steps.optimiser.state.clear()
        if self.device.type == "cuda":
            peaks["allocated_bytes"], peaks["reserved_bytes"] = memory.allocated_bytes(run, self.device)
            return peaks
        _return_free_memory()
        before = memory.resident()
        memory.forget_highest_resident()
        run()
        run()
        peaks["resident_bytes"] = memory.highest_resident() - before
        return peaks

    def _in_torch(self, key: str) -> Steps:
        """The calls with all their modules at work: an engine without torch cannot be looked into."""
        steps = self.loaded[key]
        return Steps(self.subject.in_torch, steps.inputs) if isinstance(self.subject, Answering) else steps

    def saved(self, key: str) -> dict[str, Any]:
        """Bytes that each module keeps for the backward pass of a training step."""
        from mlanet.profiling.saved import saved_bytes

        steps = self.loaded[key]
        return {"saved": saved_bytes(self.subject.module, lambda: self.subject.evaluate(steps.inputs, True))}

    def trace(self, key: str, mode: str, path: str) -> dict[str, Any]:
        """Where the time goes: by layer, by operation, and beside the ceilings of the machine."""
        from mlanet.profiling.trace import trace

        steps = self._in_torch(key)
        return trace(steps.call(mode), self.subject.module, self.device, Path(path) if path else None)


def adapted(model: str, path: Path, request: Request) -> Subject:
    """Another package's model, built by the adapter file's table `PEERS`."""
    base, _, changes = model.partition(":")
    options = dict(word.split("=", 1) for word in changes.split(",") if word)
    subject: Subject = adapter_table(path)[base].build({key: _value(text) for key, text in options.items()}, request)
    return subject


def ours(model: str, request: Request) -> Subject:
    """One of this package's; its modules are not there for other packages' environments."""
    from mlanet.profiling.ours import own

    return own(model, request)


def degree_of(subject: Subject, name: str) -> int | None:
    """The highest degree of a model's features, where its settings or its name say."""
    if isinstance(subject, Own):
        return subject.module.model.config.l_max
    named = re.search(r"l_max=(\d+)", name)
    return int(named[1]) if named else None


def adapter_table(path: Path) -> dict[str, Any]:
    """`PEERS` of an adapter file: name -> an entry with `environment`, `requires` and `build(options, request)`.

    The file may import others of its folder.
    """
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    table: dict[str, Any] = importlib.import_module(path.stem).PEERS
    return table


def machine(device: torch.device) -> dict[str, Any]:
    """What a figure depends on besides the model."""
    facts: dict[str, Any] = {"device": _device_name(device), "torch": torch.__version__}
    facts["python"] = ".".join(map(str, sys.version_info[:3]))
    facts["tf32"] = torch.get_float32_matmul_precision() != "highest"
    facts["threads"] = torch.get_num_threads()
    if device.type == "cuda":
        facts["cuda"] = torch.version.cuda
        facts["driver"] = _driver()
    return facts


def limit_memory(gib: float, device: torch.device) -> None:
    """Make every request for memory beyond `gib` more than now fail, on the GPU or in this process."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, gib * 2**30 / total), device)
        return
    import resource

    _take_a_step()
    lines = Path("/proc/self/status").read_text().splitlines()
    held = next(int(line.split()[1]) for line in lines if line.startswith("VmData")) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (held + int(gib * 2**30), resource.RLIM_INFINITY))


def _take_a_step() -> None:
    """Load what torch loads with the first step of an optimiser, its compiler too: that is not a model's memory."""
    weight = torch.zeros(1, requires_grad=True)
    weight.sum().backward()
    torch.optim.AdamW([weight]).step()


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        import platform

        model = platform.processor() or platform.machine()
    return f"{model}, {os.cpu_count()} cores"


def _driver() -> str:
    try:
        return Path("/proc/driver/nvidia/version").read_text().split("Module")[1].split()[0]
    except (OSError, IndexError):
        return "unknown"


def _return_free_memory() -> None:
    """Give what was freed back to the system, so that the next rise is seen."""
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return


def _atoms(data: dict[str, Any]) -> Atoms:
    return Atoms(numbers=data["numbers"], positions=data["positions"], cell=data["cell"], pbc=data["pbc"])


def _value(text: str) -> Any:
    """A word of the command line as a number, a truth value, or itself."""
    try:
        return json.loads(text.lower())
    except json.JSONDecodeError:
        return text


def main() -> None:
    """Answer until the input ends. Whatever libraries print goes to stderr, not among the answers."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker()
    for line in sys.stdin:
        command = json.loads(line)
        started = time.perf_counter()
        try:
            answer = getattr(worker, command.pop("do"))(**command)
        except Exception as error:
            if os.environ.get("MLANET_WORKER_TRACEBACK"):
                traceback.print_exc()
            kind = "out of memory" if memory.is_out_of_memory(error) else "error"
            answer = {"failure": f"{type(error).__name__}: {error}".splitlines()[0][:500], "kind": kind}
            gc.collect()
        answers.write(json.dumps({**answer, "seconds": time.perf_counter() - started}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
