"""A teacher in an environment of its own: structures come in as JSON lines on stdin, labels go out on stdout.

Run by path with the teacher's interpreter, which needs ASE and the teacher but not mlanet:

    python worker.py 7net-l3i5
    python worker.py my_module:my_factory

A line in: {"numbers": [..], "positions": [[..]], "cell": [[..]], "pbc": [..]} in Å. A line out: {"energy": eV,
"forces": eV/Å, "stress": Voigt xx yy zz yz xz xy in eV/Å³ with tension positive, or null, "seconds": CPU time,
"memory": highest so far, MiB} or {"error": "why"}.
The first line out is {"ready": name, "elements": [..] or null}.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time
from typing import Any


def _sevennet(name: str) -> Any:
    from sevenn.calculator import SevenNetCalculator

    calculator = SevenNetCalculator(name.removesuffix("-plain"), device="cpu")
    calculator.elements = sorted(calculator.type_map)
    return calculator if name.endswith("-plain") else _faster(calculator)


def _faster(plain: Any) -> Any:
    """With fused convolutions where they can be made and give the plain numbers; else as it is, with the reason."""
    import copy
    import importlib.util
    from pathlib import Path

    import numpy as np
    from ase.build import bulk

    try:
        place = Path(__file__).with_name("fused_convolution.py")
        spec = importlib.util.spec_from_file_location("fused_convolution", place)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        fast = copy.deepcopy(plain)
        if not module.fuse(fast.model):
            raise ValueError("the model has no convolution of the known kind")
        crystal = bulk("NaCl", "rocksalt", 5.6, cubic=True)
        crystal.rattle(0.1, seed=0)
        difference = np.abs(fast.get_forces(crystal) - plain.get_forces(crystal)).max()
        if not difference < 1e-4:
            raise ValueError(f"forces differ by {difference:.1e} eV/Å")
    except Exception as error:  # no compiler, another version: slower, but right
        print(f"the teacher's convolutions are not fused: {type(error).__name__}: {error}", file=sys.stderr)
        return plain
    return fast


def _chgnet(name: str) -> Any:
    from chgnet.model.dynamics import CHGNetCalculator
    from chgnet.model.model import CHGNet

    return CHGNetCalculator(model=CHGNet.load(use_device="cpu", verbose=False), use_device="cpu")


def _emt(name: str) -> Any:
    from ase.calculators.emt import EMT, parameters
    from ase.data import atomic_numbers

    calculator: Any = EMT()
    calculator.elements = sorted(atomic_numbers[symbol] for symbol in parameters if symbol in atomic_numbers)
    return calculator


def _mlanet(name: str) -> Any:
    from mlanet import MLANetCalculator

    return MLANetCalculator(name.partition(":")[2])


TEACHERS = {
    "7net-l3i5": _sevennet,
    "7net-l3i5-plain": _sevennet,
    "7net-0": _sevennet,
    "chgnet": _chgnet,
    "emt": _emt,
}
"""Teachers known by name (`plain`: as its package comes); `mlanet:FILE` is a model of this package, anything else is
`module:factory`."""


def calculator_of(name: str) -> Any:
    """An ASE calculator by name; it may have `elements`, the atomic numbers that it knows."""
    if name in TEACHERS:
        return TEACHERS[name](name)
    if name.startswith("mlanet:"):
        return _mlanet(name)
    module, colon, factory = name.partition(":")
    if not colon:
        raise SystemExit(f"teacher '{name}': known are {', '.join(TEACHERS)}, mlanet:FILE and module:factory")
    sys.path.insert(0, os.getcwd())
    return getattr(importlib.import_module(module), factory)()


def labels(calculator: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Energy, forces, stress of a cell periodic in all directions, and energies of atoms if the teacher has them."""
    import numpy as np
    from ase import Atoms

    atoms = Atoms(
        request["numbers"],
        positions=request["positions"],
        cell=request["cell"],
        pbc=request["pbc"],
        calculator=calculator,
    )
    began = time.process_time()
    try:
        answer = {
            "energy": float(atoms.get_potential_energy()),
            "forces": np.asarray(atoms.get_forces(), dtype=float).tolist(),
            "stress": np.asarray(atoms.get_stress(), dtype=float).tolist() if all(request["pbc"]) else None,
        }
    except Exception as error:  # whatever a teacher throws at an odd structure: the structure is left out
        return {"error": f"{type(error).__name__}: {error}"}
    atomic = np.asarray(calculator.results.get("energies", ()), dtype=float)
    if atomic.shape == (len(atoms),) and abs(atomic.sum() - answer["energy"]) < 1e-3 * len(atoms):
        answer["atomic_energies"] = atomic.tolist()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
    return answer | {"seconds": time.process_time() - began, "memory": memory}


def serve(name: str) -> None:
    """Answer until stdin ends. What the teacher prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    calculator = calculator_of(name)
    print(json.dumps({"ready": name, "elements": getattr(calculator, "elements", None)}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(labels(calculator, json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    sys.path.pop(0)  # this folder, whose modules would hide others of the same names
    serve(sys.argv[1])
