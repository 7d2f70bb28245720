"""Who did what: every operation of a computation with its module, its pass, its time, bytes and floating-point work."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from mlanet.profiling.clock import PHASES
from mlanet.profiling.saved import ModuleStack

GATHERS = ("index_select", "gather", "index", "embedding")
"""Operations that read as much of their first argument as they write, not all of it."""


@dataclass
class Account:
    """Sums over operations: calls, ms, bytes read and written, floating-point operations."""

    calls: int = 0
    ms: float = 0.0
    bytes: float = 0.0
    flops: float = 0.0

    def add(self, other: Account) -> None:
        """Sum up."""
        self.calls += other.calls
        self.ms += other.ms
        self.bytes += other.bytes
        self.flops += other.flops


Key = tuple[str, str, str]
"""Module, phase, operation."""


class Ledger(TorchDispatchMode):
    """Books every operation inside the `with` block under (module, phase, operation).

    An operation of the forward pass belongs to the module at work. One of a backward pass belongs to the module in
    whose forward pass the node of the graph was made, found by the node's sequence number; nodes that are made while
    a node works inherit its module, which carries the account through double backward. Bytes are those of the
    tensors that go in and out, the least that an unfused operation can move.
    """

    def __init__(self, modules: ModuleStack, device: torch.device) -> None:
        super().__init__()
        self.accounts: dict[Key, Account] = {}
        self._stack, self._device = modules.stack, device
        self._owners: dict[int, str] = {}
        self._passes: list[int] = []
        self._next = torch._C._autograd._get_sequence_nr()

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        module, phase = self._at_work()
        now = torch._C._autograd._get_sequence_nr()
        for number in range(self._next, now):
            self._owners[number] = module
        self._next = now
        start = self._clock()
        result = operation(*args, **kwargs)
        spent = 1e3 * (self._clock() - start)
        name = operation._overloadpacket.__name__
        if not operation.is_view:
            moved, work = _traffic(name, args, kwargs, result), _work(operation, args, kwargs, result)
            key = (module, phase, name)
            self.accounts.setdefault(key, Account()).add(Account(1, spent, moved, work))
        return result

    def _at_work(self) -> tuple[str, str]:
        """The module, and the pass: the first derivative that is taken is the backward, later ones the double."""
        node = torch._C._current_autograd_node()
        if node is None:
            return self._stack[-1], PHASES[0]
        task = torch._C._current_graph_task_id()
        if task not in self._passes:
            self._passes.append(task)
        return self._owners.get(node._sequence_nr(), self._stack[0]), PHASES[min(self._passes.index(task) + 1, 2)]

    def _clock(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


def booked(run: Callable[[], object], module: nn.Module, device: torch.device) -> dict[Key, Account]:
    """The accounts of one call."""
    stack = ModuleStack(module, ["outside the layers"])
    with stack, Ledger(stack, device) as ledger:
        run()
    return ledger.accounts


def summed(accounts: dict[Key, Account], by: Callable[[Key], str]) -> dict[str, Account]:
    """Accounts joined by what a function of the key says, the most time first."""
    sums: dict[str, Account] = {}
    for key, account in accounts.items():
        sums.setdefault(by(key), Account()).add(account)
    return dict(sorted(sums.items(), key=lambda item: -item[1].ms))


def _tensors(things: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(things) if isinstance(leaf, Tensor)]


def _traffic(name: str, args: Any, kwargs: Any, result: Any) -> float:
    """Bytes in and out."""
    out = sum(tensor.numel() * tensor.element_size() for tensor in _tensors(result))
    sources = _tensors((args, kwargs))
    read = sum(source.numel() * source.element_size() for source in sources)
    if name in GATHERS and sources:
        read = out + sum(source.numel() * source.element_size() for source in sources[1:])
    return float(read + out)


def _work(operation: Any, args: Any, kwargs: Any, result: Any) -> float:
    """Floating-point operations: torch's own count of products, else one for every number that goes in or out."""
    count = flop_registry.get(operation._overloadpacket)
    if count is not None:
        return float(count(*args, **kwargs, out_val=result))
    floats = [tensor for tensor in _tensors((args, kwargs, result)) if tensor.is_floating_point()]
    return float(max((tensor.numel() for tensor in floats), default=0))
