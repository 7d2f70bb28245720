"""Matrix products of float32 models in fewer digits, on request, with what that costs stated for every model.

TF32 (10 bits of fraction instead of 23) is for NVIDIA GPUs from capability 8.0 on. Everything that is no matrix product
stays float32, and energies are summed in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from mlanet.errors import ConfigError
from mlanet.graph import AtomicGraph, Prediction
from mlanet.ops.digits import fewer_digits_are_used, matrix_products
from mlanet.potential import Potential
from mlanet.units import EV_PER_CUBIC_ANGSTROM_IN_GPA

Matmul = Literal["float32", "tf32"]
"""How matrix products of a float32 model are computed."""

HOME = {"tf32": "cuda"}
"""Where products of fewer digits exist."""


@dataclass(frozen=True)
class MatmulCost:
    """Largest differences from float32 over a batch. - energy meV/atom · forces meV/Å · stress GPa, or NaN without"""

    kind: str
    energy: float
    forces: float
    stress: float

    def __str__(self) -> str:
        stress = "" if self.stress != self.stress else f", stress by up to {self.stress:.2g} GPa"
        return (
            f"matrix products in {self.kind}: on the first structures energies differ from float32 by up to "
            f"{self.energy:.2g} meV/atom, forces by up to {self.forces:.2g} meV/Å{stress}"
        )


def require_matmul(kind: str, dtype: torch.dtype, device: torch.device) -> None:
    """Refuse what a model or a device has not.

    Raises:
        ConfigError: says which.
    """
    if kind not in get_args(Matmul):
        raise ConfigError(f"matmul: '{kind}' is none of {', '.join(get_args(Matmul))}")
    if kind == "float32":
        return
    if dtype != torch.float32:
        raise ConfigError(f"matmul: {kind} is for models in float32, this is in {str(dtype).removeprefix('torch.')}")
    if device.type != HOME[kind]:
        raise ConfigError(f"matmul: {kind} is for {HOME[kind]}, this model is on {device.type}")
    if not _has_effect(kind, device):
        raise ConfigError(f"matmul: {kind}: this {device.type} computes such products in float32 whatever it is told")


def use_matmul(potential: Potential, kind: str, tell: Callable[[MatmulCost], None]) -> Potential:
    """The potential with its matrix products chosen; its first answer is compared with the one in float32.

    Args:
        potential: is changed.
        kind: float32 or tf32.
        tell: is called with the difference, once; not for float32.
    Raises:
        ConfigError: a model or a device that has no such products.
    """
    require_matmul(kind, potential.dtype, potential.device)
    potential.matmul = kind
    if kind == "float32":
        return potential
    fewer_digits_are_used()

    def compare(_: nn.Module, given: tuple[AtomicGraph], prediction: Prediction) -> None:
        watched.remove()
        with torch.inference_mode(False), matrix_products("float32"):
            exact = potential.answer(given[0].to(potential.device, potential.dtype))
        tell(cost(kind, prediction.detach(), exact.detach(), given[0]))

    watched = potential.register_forward_hook(compare)
    return potential


def cost(kind: str, prediction: Prediction, exact: Prediction, graph: AtomicGraph) -> MatmulCost:
    """How far one answer is from the other."""
    per_atom = (prediction.energy - exact.energy).abs() / graph.atoms_per_structure().to(prediction.energy.device)
    stress = (prediction.stress - exact.stress).abs()
    defined = stress[stress.isfinite()]
    return MatmulCost(
        kind,
        1e3 * float(per_atom.max()),
        1e3 * float((prediction.forces - exact.forces).abs().max()),
        EV_PER_CUBIC_ANGSTROM_IN_GPA * float(defined.max()) if defined.numel() else float("nan"),
    )


def _has_effect(kind: str, device: torch.device) -> bool:
    """Whether a product changes: torch takes the request for a hint."""
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(256, 64, generator=generator).to(device)
    products: list[Tensor] = []
    for way in ("float32", kind):
        with matrix_products(way):
            products.append(matrix @ matrix.T)
    return not torch.equal(*products)
