"""What a caller has set in torch for work of its own, and that must not change ours."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch

_DEVICES = ("cpu", "cuda")

_forked = False
"""Whether this process is a fork that has computed nothing yet."""


def _note_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


@contextlib.contextmanager
def usual_torch() -> Iterator[None]:
    """Compute as torch does by itself, whatever the caller is in: numbers must not depend on that.

    Left aside meanwhile are inference mode, whose tensors no gradient can ever pass, autocast, which would compute
    matrix products with eight bits, and a default device. Costs a microsecond where none of them is set. The default
    type of torch is one for all threads and left alone: nothing that is computed may depend on it. A fork of a process
    begins with one thread, since it has none of the threads for which OpenMP would otherwise wait for ever.
    """
    global _forked
    if _forked:
        _forked = False
        torch.set_num_threads(1)
    with contextlib.ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        for device in _DEVICES:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield


@contextlib.contextmanager
def determinism(wanted: bool) -> Iterator[None]:
    """Deterministic algorithms for the run, the former setting afterwards; cuBLAS wants a fixed workspace for them."""
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(wanted or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
