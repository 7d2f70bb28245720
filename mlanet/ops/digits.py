"""With how many digits torch computes matrix products of float32 tensors."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import torch

SETTING = {"float32": "highest", "tf32": "high"}
"""In torch's words."""


TURNS = threading.RLock()
"""The setting is one for a process: where anybody has fewer digits, everybody takes turns."""

_mixed = threading.Event()


def fewer_digits_are_used() -> None:
    """From now on threads take turns."""
    _mixed.set()


@contextlib.contextmanager
def matrix_products(kind: str) -> Iterator[None]:
    """Compute float32 matrix products so; the former setting afterwards."""
    if _mixed.is_set():
        with TURNS:
            yield from _set(kind)
    else:
        yield from _set(kind)


def _set(kind: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    if before == SETTING[kind]:
        yield
        return
    torch.set_float32_matmul_precision(SETTING[kind])
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
