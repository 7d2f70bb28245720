"""With how many digits torch computes matrix products of float32 tensors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

SETTING = {"float32": "highest", "tf32": "high", "bf16": "medium"}
"""In torch's words; what its "medium" means on a GPU is TF32."""


@contextlib.contextmanager
def matrix_products(kind: str) -> Iterator[None]:
    """Compute float32 matrix products so; the former setting afterwards."""
    before = torch.get_float32_matmul_precision()
    if before == SETTING[kind]:
        yield
        return
    torch.set_float32_matmul_precision(SETTING[kind])
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
