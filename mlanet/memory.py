"""How much memory a computation needs at its peak, counted alike on every device."""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mlanet.machine import available_bytes


class _Watching(TorchDispatchMode):
    """Sees every operation inside its `with` block, in Python: torch wraps others of its kind so that its compiler
    passes them by, and loads that compiler, two seconds, at the first operation."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


class LiveBytes(_Watching):
    """Counts the bytes of all tensors that are alive at once, as they come and go inside the `with` block.

    Every operation, those of the backward passes included, passes through `__torch_dispatch__`; a new storage adds its
    bytes and takes them away when it is freed. The count does not depend on the device, its allocator or on what else
    the process holds; scratch space inside a kernel is not seen. Tensors that were there before count nothing.

    - live: bytes alive now · peak: the largest `live` so far
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = 0
        self.peak = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        before = {_pointer(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        result = operation(*args, **kwargs)
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and _pointer(leaf) not in before:
                self._add(leaf)
        return result

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        known = self._known.get(key)
        if known is not None and known() is not None:
            return

        def freed(_: object) -> None:
            self.live -= size
            self._known.pop(key, None)

        self._known[key] = weakref.ref(storage, freed)
        self.live += size
        self.peak = max(self.peak, self.live)


class Allowance(_Watching):
    """Lets tensors be made inside the `with` block until they hold so many numbers together, and no more.

    A tensor is counted by the size that is asked for, before it is made.

    - numbers: how many · left: how many still
    """

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.numbers = self.left = numbers

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        size = args[0] if args else None
        if isinstance(size, list | tuple) and all(isinstance(extent, int) for extent in size):
            self.left -= math.prod(size)
        if self.left < 0:
            raise MemoryError(f"more than {self.numbers} numbers")
        return operation(*args, **(kwargs or {}))


def peak_bytes(run: Callable[[], object]) -> int:
    """Bytes by which the tensors alive at once exceed those alive before, at the worst moment of a call.

    >>> peak_bytes(lambda: torch.zeros(1000).sin().sum())
    8000
    """
    with LiveBytes() as counted:
        run()
    return counted.peak


def allocated_bytes(run: Callable[[], object], device: torch.device) -> tuple[int, int]:
    """Rise of the bytes that CUDA's allocator hands out, and that it reserves, at the worst moment of a call."""
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before, torch.cuda.max_memory_reserved(device)


def forget_highest_resident() -> None:
    """Let `highest_resident` count from now on (Linux; elsewhere it keeps the highest since the start)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def highest_resident() -> int:
    """Bytes, the largest resident set of this process since `forget_highest_resident`."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
    except (OSError, StopIteration):
        import resource
        import sys

        highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return highest if sys.platform == "darwin" else highest * 1024


def resident() -> int:
    """Bytes of this process that are in memory now; the most ever where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return highest_resident()


def free_bytes(device: torch.device) -> int:
    """Bytes that a computation may still take: free memory of a GPU, or available memory of the machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return available_bytes()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: torch's own type, or the words of libraries that have none.

    >>> is_out_of_memory(RuntimeError("CUDA error: out of memory"))
    True
    >>> is_out_of_memory(ValueError("bad cell"))
    False
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    words = ("out of memory", "can't allocate memory", "cannot allocate memory", "failed to allocate", "alloc_failed")
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)


def _pointer(tensor: Tensor) -> int:
    """Which storage a tensor looks at."""
    return tensor.untyped_storage()._cdata
