"""Virtual environments for the other packages' potentials in peers.py, whose requirements contradict each other.

    python benchmarks/environments.py                  # all, in .peers/<environment>
    python benchmarks/environments.py mace allegro     # those of these peers (allegro, nequip and sevennet share one)
    python benchmarks/environments.py mace --accelerators cu13    # with kernels for NVIDIA GPUs, for CUDA 13 or 12
    python benchmarks/environments.py nequip --folder ../peers    # in ../peers/nequip, which outlives this checkout

PyTorch is the build that pip is set to find, CPU or CUDA. What is complete is left alone, what was interrupted goes on,
and one that fails does not stop the others. 1.5 to 2.5 GB each with PyTorch for CPUs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from peers import PEERS

FOLDER = Path(__file__).resolve().parents[1] / ".peers"
TORCH = "torch==2.13.0"
COMMON = (
    "numpy==2.4.6",
    "ase==3.29.0",
    "vesin==0.6.2",
    "msgspec==0.22.0",
    "PyYAML==6.0.3",
    "safetensors==0.8.0",
    "scipy==1.17.1",
    "torch-pme==0.5.0",
)
"""What the benchmarks need in every environment to time and to train; e3nn in the version that a package wants."""


@dataclass(frozen=True)
class Environment:
    """Pinned requirements.

    - packages: installed with what they need
    - alone: installed without what they say they need; that stands in packages
    - kernels: accelerators, where `{cuda}` is cu12 or cu13
    """

    packages: tuple[str, ...]
    alone: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ()


# cuequivariance-ops-torch comes under a proprietary licence of NVIDIA; nothing here needs it unless asked to.
CUEQ = ("cuequivariance==0.9.1", "cuequivariance-torch==0.9.1", "cuequivariance-ops-torch-{cuda}==0.9.1")
OEQ = "openequivariance==0.7.0"
# SchNetPack 2.1.1 asks for tools of its developers and for a sympy older than that of torch.
SCHNETPACK = (
    "dirsync==2.2.6",
    "e3nn==0.6.0",
    "fasteners==0.20",
    "h5py==3.16.0",
    "hydra-colorlog==1.2.0",
    "hydra-core==1.3.8",
    "matscipy==1.3.1",
    "progressbar2==4.6.0",
    "pytorch-lightning==2.6.6",
    "rich==15.0.0",
    "tensorboard==2.21.0",
    "tensorboardX==2.6.5",
    "torch-ema==0.3",
    "torchmetrics==1.9.0",
)

ENVIRONMENTS: dict[str, Environment] = {
    "mace": Environment(("mace-torch==0.3.16", "e3nn==0.4.4", "matscipy==1.3.1"), kernels=CUEQ),
    "nequip": Environment(
        ("nequip==0.19.1", "nequip-allegro==0.8.3", "sevenn==0.13.0", "e3nn==0.6.0", "torch-geometric==2.8.1"),
        kernels=(*CUEQ, OEQ),
    ),
    "schnetpack": Environment(SCHNETPACK, alone=("schnetpack==2.1.1",)),
    "torchmd": Environment(("torchmd-net==3.1.0", "e3nn==0.6.0", "warp-lang==1.19.0", "torch-geometric==2.8.1")),
    "fairchem": Environment(("fairchem-core==2.24.0", "e3nn==0.6.0")),
}


def main() -> int:
    """Make what is missing; 1 where an environment failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"peers or environments: {', '.join({**PEERS, **ENVIRONMENTS})}")
    parser.add_argument("--torch", default=TORCH, help="another requirement than %(default)s")
    parser.add_argument("--accelerators", choices=("cu12", "cu13"), help="kernels for NVIDIA GPUs too")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the environments are made")
    options = parser.parse_args()
    if unknown := set(options.names) - {*PEERS, *ENVIRONMENTS}:
        parser.error(f"no peer or environment {', '.join(sorted(unknown))}")
    wanted = [PEERS[name].environment if name in PEERS else name for name in options.names or ENVIRONMENTS]
    folder = options.folder.resolve()
    failed = [name for name in dict.fromkeys(wanted) if not make(name, options.torch, options.accelerators, folder)]
    if failed:
        print(f"failed: {', '.join(failed)}")
    return bool(failed)


def make(name: str, torch: str, cuda: str | None, folder: Path = FOLDER) -> bool:
    """Make one environment, if it is not there; whether it can be used."""
    own, commands = python(name, folder), steps(ENVIRONMENTS[name], torch, cuda)
    mark, recipe = folder / name / "installed.txt", "\n".join(" ".join(words) for words in commands)
    if mark.exists() and mark.read_text() == recipe:
        print(f"{name}: there")
        return True
    try:
        if not own.exists():
            run(sys.executable, "-m", "venv", str(folder / name))
        for words in commands:
            run(str(own), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *words)
        missing = [word for word in requires(name) if not finds(own, word)]
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"{name}: {error}")
        return False
    if missing:
        print(f"{name}: installed, but without {', '.join(missing)}")
        return False
    mark.write_text(recipe)
    print(f"{name}: made")
    return True


def steps(environment: Environment, torch: str, cuda: str | None) -> list[tuple[str, ...]]:
    """Arguments of pip, call after call; torch first and in each, so that nothing else can choose another build."""
    calls: list[tuple[str, ...]] = [(torch,), (torch, *COMMON, *environment.packages)]
    if environment.alone:
        calls.append(("--no-deps", *environment.alone))
    if cuda and environment.kernels:
        calls.append((torch, *(kernel.format(cuda=cuda) for kernel in environment.kernels)))
    return calls


def requires(name: str) -> list[str]:
    """Names that the peers of an environment import, and the benchmark's own."""
    own = [word for entry in PEERS.values() if entry.environment == name for word in entry.requires]
    return ["torch", "numpy", "ase", "vesin", "msgspec", "yaml", "safetensors", "scipy", "torchpme", "e3nn", *own]


def python(name: str, folder: Path = FOLDER) -> Path:
    """The interpreter of an environment, there or not."""
    return folder / name / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def finds(own: Path, module: str) -> bool:
    """Whether an environment has a module (it is not imported)."""
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    return subprocess.run([str(own), "-c", code], capture_output=True).returncode == 0


def run(*words: str) -> None:
    """A command, printed first."""
    print("$", *words, flush=True)
    subprocess.run(words, check=True)


if __name__ == "__main__":
    sys.exit(main())
