"""The one door to e3nn's tensor products: same weights, but constants exact in float64 and absent from checkpoints."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from mlanet.irreps import o3

Path = tuple[int, int, int, str, bool]
"""(index in 1, index in 2, index out, connection mode such as `uvu`, has a weight)."""


class TensorProduct(nn.Module):
    """`e3nn.o3.TensorProduct` with Clebsch–Gordan coefficients kept exact.

    e3nn builds its constants in torch's default type, float32; a later `.double()` would leave errors of 1e-8 in every
    product, visible as broken rotations. Here they are taken anew from `o3.wigner_3j` whenever the type changes.

    - x (Z, irreps_in1.dim), y (Z, irreps_in2.dim), weight (Z, weight_numel) unless `own_weights` -> (Z, irreps_out.dim)
    """

    def __init__(
        self,
        irreps_in1: o3.Irreps,
        irreps_in2: o3.Irreps,
        irreps_out: o3.Irreps,
        paths: Sequence[Path],
        own_weights: bool,
    ) -> None:
        super().__init__()
        kind = torch.get_default_dtype(), torch.get_default_device()
        self.product = _twin(_generated(irreps_in1, irreps_in2, irreps_out, tuple(paths), own_weights, *kind))
        if own_weights:
            del self.product.weight
            self.product.internal_weights = True
            self.product.weight = nn.Parameter(torch.randn(self.product.weight_numel))
        for module in self.product.modules():
            module._non_persistent_buffers_set.update(module._buffers)
        self._restore_constants()

    @property
    def weight_numel(self) -> int:
        """How many weights each product takes."""
        return int(self.product.weight_numel)

    def forward(self, x: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """The product, path-normalised as in e3nn."""
        return self.product(x, y, weight)

    def _restore_constants(self) -> None:
        """Write every `_w3j_a_b_c` buffer anew in its own type."""
        for module in self.product.modules():
            for name, buffer in module._buffers.items():
                if name.startswith("_w3j_") and buffer is not None:
                    degrees = [int(word) for word in name.split("_")[2:]]
                    exact = o3.wigner_3j(*degrees, dtype=torch.float64, device=buffer.device)
                    module._buffers[name] = exact.to(buffer.dtype)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> TensorProduct:
        """Change type or device, then restore the constants."""
        super()._apply(fn, recurse)
        self._restore_constants()
        return self


@lru_cache(maxsize=128)
def _generated(
    irreps_in1: o3.Irreps,
    irreps_in2: o3.Irreps,
    irreps_out: o3.Irreps,
    paths: tuple[Path, ...],
    shared: bool,
    dtype: torch.dtype,
    device: torch.device,
) -> o3.TensorProduct:
    """e3nn's product without weights, of torch's default type and on its default device, which must be those given.

    It writes and optimises code, most of the time that it takes to build a model: once for each product.
    """
    sizes = (irreps_in1, irreps_in2, irreps_out)
    return o3.TensorProduct(*sizes, list(paths), shared_weights=shared, internal_weights=False)


def _twin(module: nn.Module) -> Any:
    """A module with tensors, hooks and submodules of its own and the generated code of the first."""
    twin = object.__new__(type(module))  # that of torch.fx would write the code anew
    own = {name: copy.copy(value) for name, value in vars(module).items() if isinstance(value, dict | set | list)}
    own["_buffers"] = {name: None if value is None else value.clone() for name, value in module._buffers.items()}
    own["_modules"] = {name: None if value is None else _twin(value) for name, value in module._modules.items()}
    vars(twin).update(vars(module) | own)
    return twin


def fully_connected(irreps_in1: o3.Irreps, irreps_in2: o3.Irreps, irreps_out: o3.Irreps) -> TensorProduct:
    """All `uvw` paths with own weights: `e3nn.o3.FullyConnectedTensorProduct`, constants exact."""
    paths = [
        (i, j, k, "uvw", True)
        for i, (_, ir1) in enumerate(irreps_in1)
        for j, (_, ir2) in enumerate(irreps_in2)
        for k, (_, ir) in enumerate(irreps_out)
        if ir in ir1 * ir2
    ]
    return TensorProduct(irreps_in1, irreps_in2, irreps_out, paths, own_weights=True)
