"""What a model keeps from its forward pass until the backward pass needs it, by module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def saved_bytes(module: nn.Module, run: Callable[[], object]) -> dict[str, int]:
    """Bytes of the tensors that autograd saves during a call, by the innermost module at work when it saves them.

    A storage that is saved twice counts once, for the module that was first; parameters count nothing. What is saved
    while derivatives are taken, outside any module, stands under "derivatives".
    """
    stack = ["derivatives"]
    sizes: dict[str, int] = {}
    seen = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in seen:
            seen.add(place)
            kept.append(tensor.detach())  # alive until the end, so that no later storage takes its place
            sizes[stack[-1]] = sizes.get(stack[-1], 0) + tensor.untyped_storage().nbytes()
        return tensor

    with ModuleStack(module, stack), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


class ModuleStack:
    """Keeps the name of the module at work on top of a stack; modules compiled by TorchScript are not looked into."""

    def __init__(self, module: nn.Module, stack: list[str]) -> None:
        self.module, self.stack = module, stack
        self.handles: list[Any] = []

    def __enter__(self) -> list[str]:
        for name, module in self.module.named_modules():
            if isinstance(module, torch.jit.ScriptModule):
                continue
            self.handles.append(module.register_forward_pre_hook(self._enter(name or "whole model")))
            self.handles.append(module.register_forward_hook(self._leave, always_call=True))
        return self.stack

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()

    def _enter(self, name: str) -> Callable[..., None]:
        def enter(*_: object) -> None:
            self.stack.append(name)

        return enter

    def _leave(self, *_: object) -> None:
        self.stack.pop()
