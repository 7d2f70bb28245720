"""Who takes part in `benchmarks/run.py`: our models in all their degrees and kernels, and other packages' models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from peers import PEERS

from mlanet.errors import ConfigError
from mlanet.profiling.fleet import Settings, require_known

ADAPTERS = Path(__file__).with_name("peers.py")
KERNELS = ("plain", "fused", "native")
FIXED_DEGREE = {"painn": 1, "tensornet": 2}
"""Peers whose features have one highest degree and no option for it."""

ACCELERATORS = {"mace": "cueq", "nequip": "oeq", "allegro": "cueq", "sevennet": "flash"}
"""Kernels for NVIDIA GPUs that other packages can switch on."""

COMPILED = {"mace": ("compile",), "nequip": ("compile", "aoti"), "esen": ("compile",)}
"""Modes of other packages that have torch compile their models, on any device."""


@dataclass(frozen=True)
class Contender:
    """A model in the race.

    - name: what `mlanet profile` calls it · degree: highest l of its features
    - family: the same for all degrees and kernels: mlanet, mlanet full, leignn, mace, mace cueq, …
    """

    name: str
    family: str
    degree: int


@dataclass(frozen=True)
class Sizes:
    """What all models have in common."""

    channels: int = 64
    layers: int = 3


def lineup(
    degrees: Sequence[int],
    kernels: Sequence[str],
    peers: Sequence[str],
    sizes: Sizes,
    accelerated: bool,
    compiled: bool = False,
) -> list[Contender]:
    """Everybody, by degree, ours before the others.

    Args:
        kernels: of our models.
        accelerated: peers also with their kernels for GPUs.
        compiled: peers also in their compiled modes.
    """
    whole = []
    for degree in degrees:
        whole += [Contender(_ours(degree, sizes, "", kernel), "mlanet", degree) for kernel in kernels]
        whole += [
            Contender(_ours(degree, sizes, "message=full,combine=product", kernel), "mlanet full", degree)
            for kernel in kernels
        ]
        if degree == 1:
            leignn = f"leignn:channels={sizes.channels},layers={sizes.layers}"
            whole += [Contender(f"{leignn}@{kernel}", "leignn", 1) for kernel in kernels]
        for peer in peers:
            whole += _peer(peer, degree, sizes, _modes(peer, accelerated, compiled))
    return whole


def require_present(contenders: Sequence[Contender], settings: Settings) -> tuple[list[Contender], dict[str, str]]:
    """Those that can be started here, and for the families of the others why not."""
    present, absent = [], {}
    for one in contenders:
        try:
            require_known([one.name], settings)
            present.append(one)
        except ConfigError as error:
            if one.family.split()[0] not in PEERS:
                raise
            absent[one.family] = str(error)
    return present, absent


def _ours(degree: int, sizes: Sizes, more: str, kernel: str) -> str:
    """A preset, with what differs from it."""
    changes = [more] if more else []
    if sizes.channels != 64:
        irreps = "+".join(f"{sizes.channels}x{l}{'eo'[l % 2]}" for l in range(degree + 1))  # noqa: E741
        changes.append(f"irreps={irreps}")
    if sizes.layers != 3:
        changes.append(f"layers={sizes.layers}")
    return f"mlanet_l{degree}{':' if changes else ''}{','.join(changes)}@{kernel}"


def _modes(peer: str, accelerated: bool, compiled: bool) -> list[str]:
    """Options that a peer takes part with besides none."""
    kernels = [ACCELERATORS[peer]] if accelerated and peer in ACCELERATORS else []
    return kernels + (list(COMPILED.get(peer, ())) if compiled else [])


def _peer(peer: str, degree: int, sizes: Sizes, modes: Sequence[str]) -> list[Contender]:
    options = [f"channels={sizes.channels}", f"layers={sizes.layers}"]
    if peer in FIXED_DEGREE:
        return [Contender(f"{peer}:{','.join(options)}", peer, degree)] if FIXED_DEGREE[peer] == degree else []
    name = f"{peer}:{','.join([f'l_max={degree}', *options])}"
    return [Contender(name, peer, degree), *(Contender(f"{name},{one}=true", f"{peer} {one}", degree) for one in modes)]
