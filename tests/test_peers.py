"""Other packages' potentials behind the benchmark's interface: derivatives, units, refusals.

Each that is installed, here or in `.peers`, is built in a process of its own, with its own interpreter.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "benchmarks"))

from environments import ENVIRONMENTS, python, steps  # noqa: E402
from lineup import COMPILED  # noqa: E402
from peers import PEERS, Request  # noqa: E402

SMALL = {"channels": 8, "layers": 2, "cutoff": 4.0}
DEGREES = {name: {} if name in ("painn", "tensornet") else {"l_max": 2} for name in PEERS}
CASES = [*DEGREES.items(), ("mace", {"l_max": 1, "harmonics": 2}), ("allegro", {"parity": True, "l_max": 1})]
CASES += [("nequip", {"parity": True, "l_max": 1}), ("sevennet", {"parity": True, "l_max": 1}), ("esen", {"l_max": 3})]
CASES += [("tensornet", {"warp": True})]

CHILD = """
import json, sys, warnings
warnings.filterwarnings("ignore")
import numpy as np, torch
from ase import Atoms
from ase.build import bulk
from peers import PEERS, Request

name, options, dtype = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
torch.set_num_threads(1)
random = np.random.default_rng(1)
crystals = [bulk("LiO", "rocksalt", a=4.2, cubic=True), bulk("CoO", "zincblende", a=4.4).repeat((2, 1, 1))]
for crystal in crystals:
    crystal.positions += random.normal(scale=0.1, size=crystal.positions.shape)
sizes = [len(crystal) for crystal in crystals]
torch.manual_seed(1)
peer = PEERS[name].build(options, Request((3, 8, 27), 40.0, "cpu", dtype))

def energies(structures):
    return peer.evaluate(peer.prepare(structures), False)[0].double().numpy()

def moved(sign, strain=None, moves=None, step=1e-5):
    new = [crystal.copy() for crystal in crystals]
    for crystal, kick in zip(new, moves or [0.0] * len(new)):
        crystal.positions += sign * step * kick
        if strain is not None:
            crystal.set_cell(crystal.cell.array @ (np.eye(3) + sign * step * strain), scale_atoms=True)
    return energies(new) / (2 * step)

inputs = peer.prepare(crystals)
energy, forces, stress = (values.double() for values in peer.evaluate(inputs, False))
again = [values.double() for values in peer.evaluate(inputs, False)]
moves = [random.normal(size=(size, 3)) for size in sizes]
strain = random.normal(size=(3, 3))
strain += strain.T
works = [float((part.numpy() * move).sum()) for part, move in zip(forces.split(sizes), moves)]
work = [crystal.get_volume() * float((part.numpy() * strain).sum()) for crystal, part in zip(crystals, stress)]
report = {
    "shapes": [list(values.shape) for values in (energy, forces, stress)],
    "history": energy.requires_grad or forces.requires_grad or stress.requires_grad,
    "edges": peer.edges(inputs),
    "again": max(float((a - b).abs().max()) for a, b in zip(again, (energy, forces, stress))),
    "skew": float((stress - stress.transpose(1, 2)).abs().max() / stress.abs().max()),
    "single": float(abs(energies(crystals[:1])[0] - energy[0])) / float(abs(energy[0])),
    "forces": [works, (moved(-1, moves=moves) - moved(1, moves=moves)).tolist()],
    "stress": [work, (moved(1, strain) - moved(-1, strain)).tolist()],
}

def loss():
    energy, forces, stress = peer.evaluate(inputs, True)
    return energy.square().sum() + forces.square().sum() + 1e4 * stress.square().sum()

parameters = [parameter for parameter in peer.module.parameters() if parameter.requires_grad]
loss().backward()
torch.manual_seed(2)
reached = [parameter.grad is not None and bool(parameter.grad.any()) for parameter in parameters]
moves = [torch.randn_like(parameter) for parameter in parameters]
slope = sum(float((p.grad * move).sum()) for p, move in zip(parameters, moves) if p.grad is not None)
values = []
for place in (1e-5, -2e-5):
    with torch.no_grad():
        for parameter, move in zip(parameters, moves):
            parameter += place * move
    values.append(float(loss()))
report["parameters"] = [slope, (values[0] - values[1]) / 2e-5]
report["reached"] = sum(reached) / len(reached)
print("REPORT" + json.dumps(report))
"""

COMPARISON = """
import json, sys, warnings
warnings.filterwarnings("ignore")
import numpy as np, torch
from ase import Atoms
from ase.build import bulk
from peers import PEERS, Request

name, mode, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
torch.set_num_threads(1)
request = Request((3, 8, 27), 40.0, "cpu", "float64")
models = []
for more in ({}, {mode: True}):
    torch.manual_seed(1)
    models.append(PEERS[name].build(options | more, request))
weights = [list(peer.module.parameters()) for peer in models]
assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))

def crystal(repeats):
    found = bulk("LiO", "rocksalt", a=4.2, cubic=True).repeat((1, 1, repeats))
    found.positions += np.random.default_rng(1).normal(scale=0.1, size=found.positions.shape)
    return found

def derivatives(peer, inputs):
    peer.module.zero_grad()
    energy, forces, stress = peer.evaluate(inputs, True)
    (energy.square().sum() + forces.square().sum() + 1e4 * stress.square().sum()).backward()
    weights = [one.grad.reshape(-1) for one in peer.module.parameters() if one.grad is not None]
    return energy.detach(), forces.detach(), stress.detach(), torch.cat(weights)

def apart(here, there):
    return max(float((a - b).abs().max() / a.abs().max()) for a, b in zip(here, there, strict=True))

report = {"edges": [], "infer": [], "train": []}
for structures in ([crystal(1)], [crystal(2)]):
    given = [peer.prepare(structures) for peer in models]
    report["edges"].append([peer.edges(one) for peer, one in zip(models, given)])
    values = [peer.evaluate(one, False) for peer, one in zip(models, given)]
    report["infer"].append(apart(*values))
    report["history"] = any(one.requires_grad for one in values[1])
    try:
        report["train"].append(apart(*(derivatives(peer, one) for peer, one in zip(models, given))))
    except RuntimeError as error:
        report["refused"] = str(error)
        assert "is for inference" in str(error), error
print("REPORT" + json.dumps(report))
"""


def interpreter(name: str) -> str:
    """The interpreter that has a peer's packages; without one the test is skipped."""
    entry = PEERS[name]
    if all(installed(module) for module in entry.requires):
        return sys.executable
    if (python(entry.environment).parents[1] / "installed.txt").exists():
        return str(python(entry.environment))
    pytest.skip(f"{', '.join(entry.requires)} not installed; python benchmarks/environments.py {name} would do it")


def installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package that it would be part of
        return False


def child(program: str, code: str, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'benchmarks'}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([program, "-c", code, *words], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize(("name", "options"), CASES, ids=lambda value: value if isinstance(value, str) else str(value))
def test_derivatives(name: str, options: dict[str, object]) -> None:
    """Forces and stress are the slopes of the energy, with our signs and units, and the loss has its own slope.

    Central differences in double precision, steps of 1e-5 (Å; strain; a parameter's unit): 1e-5 of the larger
    slope. A batch of two crystals of different size, cell and elements gives what each gives alone.
    """
    output = child(interpreter(name), CHILD, name, json.dumps(SMALL | options), "float64")
    report = json.loads(output.split("REPORT")[1])
    assert report["shapes"] == [[2], [12, 3], [2, 3, 3]]
    assert not report["history"] and report["edges"] > 12 and report["again"] < 1e-9
    assert report["skew"] < 1e-9 and report["single"] < 1e-9
    for law in ("forces", "stress", "parameters"):
        here, there = (np.atleast_1d(values) for values in report[law])
        assert np.abs(here).min() > 1e-6, law
        assert np.abs(there - here).max() < 1e-5 * np.abs(here).max(), law
    assert report["reached"] > 0.5


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("name", "mode"), [(name, mode) for name, modes in COMPILED.items() for mode in modes])
def test_compiled_modes_compute_the_same(name: str, mode: str) -> None:
    """Energy, forces and stress, and the gradient of a loss on all three, as without compilation: double precision,
    1e-8 of the largest value. One structure at a time, in two sizes; what is for inference says so in training."""
    options = {"channels": 4, "layers": 2, "cutoff": 4.0, "l_max": 1}
    report = json.loads(child(interpreter(name), COMPARISON, name, mode, json.dumps(options)).split("REPORT")[1])
    assert all(plain == compiled > 12 for plain, compiled in report["edges"])
    assert not report["history"] and len(report["infer"]) == 2 and max(report["infer"]) < 1e-8
    if name == "esen" or mode == "aoti":
        assert not report["train"] and "is for inference" in report["refused"]
    else:
        assert len(report["train"]) == 2 and max(report["train"]) < 1e-8


def test_table_is_light() -> None:
    """The parent process of a benchmark reads it without torch, numpy or any peer."""
    heavy = ("torch", "numpy", "ase", "mlanet", "vesin", *(word for entry in PEERS.values() for word in entry.requires))
    loaded = child(sys.executable, "import sys, peers, environments; print(*sys.modules)").split()
    assert not {word.split(".")[0] for word in heavy} & set(loaded)


@pytest.mark.parametrize("name", PEERS)
def test_options_are_checked(name: str) -> None:
    """Before any package is imported: names and types."""
    request = Request((3, 8), 40.0)
    with pytest.raises(ValueError, match="no option 'chanels'; there are .*channels"):
        PEERS[name].build({"chanels": 8}, request)
    with pytest.raises(ValueError, match="channels='8' should be of type int"):
        PEERS[name].build({"channels": "8"}, request)
    if name in ("painn", "tensornet"):
        with pytest.raises(ValueError, match="no option 'l_max'"):
            PEERS[name].build({"l_max": 2}, request)


@pytest.mark.parametrize(
    "word", ["mace:cueq", "nequip:oeq", "allegro:cueq", "sevennet:flash", "sevennet:oeq", "sevennet:cueq"]
)
def test_accelerators_say_what_they_need(word: str) -> None:
    """On a CPU: a GPU, and what to install."""
    name, _, option = word.partition(":")
    with pytest.raises(RuntimeError, match=f"{word} needs an NVIDIA GPU .*pip install"):
        PEERS[name].build({option: True}, Request((3, 8), 40.0, "cpu"))


def test_every_peer_has_its_environment() -> None:
    """With pinned versions, one build of torch in every call of pip, and kernels only when asked for."""
    assert {entry.environment for entry in PEERS.values()} == set(ENVIRONMENTS)
    for environment in ENVIRONMENTS.values():
        calls = steps(environment, "torch==2.13.0", "cu13")
        assert all("torch==2.13.0" in words or words[0] == "--no-deps" for words in calls)
        assert all("==" in word for words in calls for word in words if word != "--no-deps")
        assert not [word for words in steps(environment, "torch", None) for word in words if "cu" in word[:2]]
