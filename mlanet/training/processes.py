"""Several processes under torchrun, or just this one: the few collective operations a training needs."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mlanet.devices import device_called


class Processes:
    """The group of processes of a run; with one process every operation is the identity.

    Gradients are summed by hand, in one flat vector per step: no wrapper around the model, no trouble with unused
    parameters, and the same number of collective calls on every rank, also when a rank's last batch is empty.
    """

    def __init__(self, device: str) -> None:
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = device_called(f"cuda:{local}" if device == "cuda" else device, "run.device", "auto, ")
        self._started = False
        if self.world > 1 and not torch.distributed.is_initialized():
            torch.distributed.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
            self._started = True

    @property
    def first(self) -> bool:
        """Whether this process writes files and draws bars."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Elementwise sum over all processes, on the device of `values`."""
        if self.world == 1:
            return values
        there = values.to(self.device)
        torch.distributed.all_reduce(there)
        return there.to(values.device)

    def sum_gradients(self, parameters: Sequence[nn.Parameter], extra: Tensor) -> Tensor:
        """Replace every gradient by its sum over processes; `extra` (n,) float64 is summed along and returned."""
        if self.world == 1:
            return extra
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
        torch.distributed.all_reduce(flat)
        start = 0
        for parameter in parameters:
            assert parameter.grad is not None
            parameter.grad.copy_(flat[start : start + parameter.numel()].view_as(parameter))
            start += parameter.numel()
        return self.sum(extra)

    def wait(self) -> None:
        """Until every process has come here."""
        if self.world > 1:
            torch.distributed.barrier()

    def close(self) -> None:
        """Leave the group if this object made it."""
        if self._started:
            torch.distributed.destroy_process_group()
