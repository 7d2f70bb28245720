"""The convolution of SevenNet in one pass over the edges, for CPUs: the numbers of e3nn in far less time.

m_i = Σ_j w_ij · (x_j ⊗ Y_ij), a tensor product "uvu" of e3nn. As its package does it, every path makes arrays of the
size of edges × channels several times over; here each edge is gathered, multiplied and added at once. First derivatives
only: this is for inference. Runs in the teacher's interpreter, so it imports nothing of mlanet; needs g++.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
from e3nn import o3
from torch import Tensor

MOST_CHANNELS = 256
"""Of one path; sizes of arrays on the stack."""

FLAGS = ["-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math"]
"""Sums in any order. Not -ffast-math: linked with it, a library makes the whole process take tiny numbers for 0."""

SOURCE = r"""
#include <cstdint>
// A path: x_off, channels, 2a+1, y_off, 2b+1, 2c+1, out_off, w_off, coefficients_off. Channels are the fastest index.
typedef const int32_t* I; typedef const int64_t* L; typedef const float* F; typedef float* O;
static inline void matrix(I q, F c, F y, O M) {   // M[m_a, m_c] = sum over m_b of C[m_a, m_c, m_b] Y[m_b]
  for (int k = 0; k < q[2] * q[5]; ++k) {
    float s = 0;
    for (int b = 0; b < q[4]; ++b) s += c[k*q[4]+b] * y[b];
    M[k] = s;
  }
}
extern "C" void forward(int64_t E, int n, I paths, F cg, L sender, L center, F x, int X, F y, int Y, F w, int W,
                        O out, int D) {
  float M[256], acc[256];
  for (int64_t e = 0; e < E; ++e) for (int p = 0; p < n; ++p) {
    I q = paths + 9*p; int C = q[1], A = q[2], K = q[5];
    F xp = x + sender[e]*X + q[0], wp = w + e*W + q[7]; O op = out + center[e]*D + q[6];
    matrix(q, cg + q[8], y + e*Y + q[3], M);
    for (int k = 0; k < K; ++k) {
      for (int u = 0; u < C; ++u) acc[u] = 0;
      for (int m = 0; m < A; ++m) { float v = M[m*K+k]; for (int u = 0; u < C; ++u) acc[u] += v * xp[m*C+u]; }
      for (int u = 0; u < C; ++u) op[k*C+u] += wp[u] * acc[u];
    } } }
extern "C" void backward(int64_t E, int n, I paths, F cg, L sender, L center, F x, int X, F y, int Y, F w, int W,
                         F up, int D, O to_x, O to_y, O to_w) {
  float M[256], N[256], t[256], g[256];
  for (int64_t e = 0; e < E; ++e) for (int p = 0; p < n; ++p) {
    I q = paths + 9*p; int C = q[1], A = q[2], B = q[4], K = q[5]; F c = cg + q[8];
    F xp = x + sender[e]*X + q[0], wp = w + e*W + q[7], gp = up + center[e]*D + q[6];
    O gx = to_x + sender[e]*X + q[0], gy = to_y + e*Y + q[3], gw = to_w + e*W + q[7];
    matrix(q, c, y + e*Y + q[3], M);
    for (int u = 0; u < C; ++u) g[u] = 0;
    for (int k = 0; k < K; ++k) {
      for (int u = 0; u < C; ++u) t[u] = wp[u] * gp[k*C+u];
      for (int m = 0; m < A; ++m) {
        float v = M[m*K+k], s = 0;
        for (int u = 0; u < C; ++u) {
          float one = xp[m*C+u];
          s += t[u] * one; gx[m*C+u] += v * t[u]; g[u] += v * one * gp[k*C+u];
        }
        N[m*K+k] = s;
      } }
    for (int u = 0; u < C; ++u) gw[u] = g[u];
    for (int k = 0; k < A*K; ++k) for (int b = 0; b < B; ++b) gy[b] += c[k*B+b] * N[k];
  } }
"""


class Product(torch.nn.Module):
    """Σ_j of a tensor product over edges; the weights of all paths come one after the other, as in e3nn.

    Args:
        product: of e3nn, mode "uvu" throughout, with weights from outside.
    Raises:
        ValueError: another mode, or too many channels or components.
        OSError, subprocess.CalledProcessError: it cannot be compiled here.
    """

    def __init__(self, product: o3.TensorProduct) -> None:
        super().__init__()
        one, other, out = product.irreps_in1, product.irreps_in2, product.irreps_out
        starts = [[part.start for part in irreps.slices()] for irreps in (one, other, out)]
        paths: list[list[int]] = []
        coefficients: list[Tensor] = []
        weights = size = 0
        for path in product.instructions:
            (channels, a), (_, b), (_, c) = one[path.i_in1], other[path.i_in2], out[path.i_out]
            if path.connection_mode != "uvu" or not path.has_weight:
                raise ValueError(f"mode {path.connection_mode} is not 'uvu' with weights")
            if channels > MOST_CHANNELS or a.dim * c.dim > MOST_CHANNELS:
                raise ValueError(f"{channels} channels of {a} to {c} are too many")
            table = o3.wigner_3j(a.l, b.l, c.l, dtype=torch.float64) * path.path_weight
            place = [starts[0][path.i_in1], channels, a.dim, starts[1][path.i_in2], b.dim, c.dim]
            paths.append([*place, starts[2][path.i_out], weights, size])
            coefficients.append(table.permute(0, 2, 1).reshape(-1).float())
            weights, size = weights + channels, size + table.numel()
        self.paths = torch.tensor(paths, dtype=torch.int32)
        self.coefficients = torch.cat(coefficients).contiguous()
        self.components = out.dim
        self.to_fast, self.from_fast = _order(one), torch.argsort(_order(out))
        self.library = _library()

    def forward(self, x: Tensor, harmonics: Tensor, weights: Tensor, sender: Tensor, center: Tensor) -> Tensor:
        """(N, out). - x (N, in) · harmonics (E, ·) · weights (E, ·) · sender, center (E,) int64; float32, on the CPU"""
        sums = _Sum.apply(self, x[:, self.to_fast], harmonics, weights, sender, center)
        return sums[:, self.from_fast]


class _Sum(torch.autograd.Function):
    """The product and its first derivatives."""

    @staticmethod
    def forward(ctx: Any, product: Product, *tensors: Tensor) -> Tensor:
        x, harmonics, weights, sender, center = (tensor.contiguous() for tensor in tensors)
        out = x.new_zeros(x.shape[0], product.components)
        product.library.forward(*_given(product, x, harmonics, weights, sender, center), _at(out), out.shape[1])
        ctx.product = product
        ctx.save_for_backward(x, harmonics, weights, sender, center)
        return out

    @staticmethod
    def backward(ctx: Any, up: Tensor) -> tuple[Tensor | None, ...]:
        x, harmonics, weights, sender, center = ctx.saved_tensors
        up = up.contiguous()
        to_x, to_y, to_w = torch.zeros_like(x), torch.zeros_like(harmonics), torch.zeros_like(weights)
        given = _given(ctx.product, x, harmonics, weights, sender, center)
        ctx.product.library.backward(*given, _at(up), up.shape[1], _at(to_x), _at(to_y), _at(to_w))
        return None, to_x, to_y, to_w, None, None


def _given(
    product: Product, x: Tensor, harmonics: Tensor, weights: Tensor, sender: Tensor, center: Tensor
) -> list[Any]:
    """The arguments that both directions share."""
    for tensor in (x, harmonics, weights):
        if tensor.dtype != torch.float32 or tensor.device.type != "cpu":
            raise ValueError(f"expected float32 on the CPU, got {tensor.dtype} on {tensor.device}")
    tables = [_at(product.paths), _at(product.coefficients), _at(sender), _at(center)]
    inputs = [part for tensor in (x, harmonics, weights) for part in (_at(tensor), tensor.shape[1])]
    return [ctypes.c_int64(len(sender)), len(product.paths), *tables, *inputs]


def _at(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def _order(irreps: o3.Irreps) -> Tensor:
    """Places of e3nn's components, channels slowest, in an order with channels fastest within each block."""
    parts = [
        torch.arange(part.start, part.stop).view(channels, kind.dim).T.reshape(-1)
        for (channels, kind), part in zip(irreps, irreps.slices(), strict=True)
    ]
    return torch.cat(parts)


def _library() -> ctypes.CDLL:
    """Compiled for this processor, once per user."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mlanet" / "distill"
    cache.mkdir(parents=True, exist_ok=True)
    place = cache / f"convolution-{hashlib.sha256(' '.join([*FLAGS, SOURCE]).encode()).hexdigest()[:16]}.so"
    if not place.exists():
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            made = Path(folder) / "convolution.so"
            options = [*FLAGS, "-shared", "-fPIC", "-x", "c++", "-", "-o", str(made)]
            subprocess.run(["g++", *options], input=SOURCE.encode(), check=True, capture_output=True)
            os.replace(made, place)
    return ctypes.CDLL(str(place))


def fuse(model: torch.nn.Module) -> int:
    """Give every convolution of a SevenNet model this product; returns how many there are."""
    count = 0
    for module in list(model.modules()):
        if type(module).__name__ == "IrrepsConvolution":
            module.fused = Product(module.convolution)
            module.forward = _sevennet_forward.__get__(module)
            count += 1
    for weight in model.parameters():
        weight.requires_grad_(False)
    return count


def _sevennet_forward(self: Any, data: Any) -> Any:
    """SevenNet's own, but for the product and the sum over neighbours."""
    weights = self.weight_nn(data[self.key_weight_input])
    center, sender = data[self.key_edge_idx]
    sums = self.fused(data[self.key_x], data[self.key_filter], weights, sender, center)
    data[self.key_x] = sums.div(self.denominator)
    return data
