"""A device that is not the CPU, on a machine that has none: what a GPU would refuse is refused here.

Tensors of the device `elsewhere` hold their numbers in the CPU's memory, but no operation takes them together with a
tensor of the CPU (a single number excepted, as on a GPU), and `numpy()` does not know them. Everything computes,
autograd included. Built on torch's key for backends of others, `PrivateUse1`.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.utils.backend_registration as registration
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

aten = torch.ops.aten

TRANSFERS = {aten._to_copy.default, aten.copy_.default, aten.index_put_.default}
"""What takes tensors of two devices."""


class There(Tensor):
    """A tensor of the device; `here` are its numbers."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> There:
        layout = {"strides": here.stride(), "storage_offset": here.storage_offset(), "dtype": here.dtype}
        made: There = Tensor._make_wrapper_subclass(cls, here.size(), device=elsewhere(), **layout)
        made.here = here
        return made

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(operation, args, kwargs or {})

    def tolist(self) -> Any:
        """As every device has it."""
        return self.here.tolist()


class Elsewhere(TorchDispatchMode):
    """While it is entered, tensors can be sent to the device."""

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(operation, args, kwargs or {})


def computed(operation: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """An operation on the CPU's memory, its result on the device where it belongs."""
    tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
    theirs = [one for one in tensors if isinstance(one, There)]
    ours = [one for one in tensors if not isinstance(one, There) and one.dim()]
    if theirs and ours and operation not in TRANSFERS:
        raise RuntimeError(
            f"{operation} was given tensors of two devices: {[(one.device, *one.shape) for one in tensors]}"
        )
    target = kwargs.get("device")
    goes_there = bool(theirs) if target is None else torch.device(target).type == elsewhere().type
    here = kwargs if target is None else {**kwargs, "device": torch.device("cpu")}
    found = operation(*tree_map(_numbers, args), **tree_map(_numbers, here))
    if operation is aten._local_scalar_dense.default:
        return found
    known = {id(one.here): one for one in theirs}  # operations in place answer what they were given

    def placed(one: Any) -> Any:
        if not isinstance(one, Tensor):
            return one
        if id(one) in known:
            return known[id(one)]
        return There(one) if goes_there else one

    return tree_map(placed, found)


def _numbers(one: Any) -> Any:
    return one.here if isinstance(one, There) else one


@functools.cache
def elsewhere() -> torch.device:
    """The device, registered when first asked for."""
    module = types.ModuleType("elsewhere")
    module.__dict__.update(
        is_available=lambda: True,
        device_count=lambda: 1,
        current_device=lambda: 0,
        _is_in_bad_fork=lambda: False,
        manual_seed_all=lambda seed: None,
    )
    torch.utils.rename_privateuse1_backend("elsewhere")
    torch._register_device_module("elsewhere", module)
    torch._C._acc.register_python_privateuseone_hook(registration._DummyPrivateUse1Hook())  # type: ignore[attr-defined]
    torch._C._acc.register_python_privateuseone_device_guard(registration._DummyDeviceGuard())  # type: ignore[attr-defined]
    for name, function in (("empty_strided", _empty), ("empty.memory_format", _empty), ("_copy_from", _copy)):
        LIBRARY.impl(name, function, "PrivateUse1")
    return torch.device("elsewhere:0")


LIBRARY = torch.library.Library("aten", "IMPL")
"""Holds what torch asks of a backend where no mode can see it: `torch.tensor(…, device=…)`."""


def _empty(
    size: Sequence[int], stride: Sequence[int] | None = None, dtype: torch.dtype | None = None, **_: Any
) -> There:
    return There(torch.empty(size, dtype=dtype) if stride is None else torch.empty_strided(size, stride, dtype=dtype))


def _copy(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    _numbers(target).copy_(_numbers(source))
    return target
