"""Sums of neighbours' scalars and vectors, filtered by distance.

**Files.** `reference` the equation · `cpu` the operation in C++ (`ops/cpp`), `gpu` in Triton (`gpu_kernels`).

**On GPUs** a program has 32 channels and 32 functions at most, so any number of either will do.

| kernel | programs | writes |
|---|---|---|
| `receive` | center, channels | m and w (N, 4, F) |
| `edge_gradient` | center, functions | gradients of b (E, K), û (E, 3) |
| `sent_gradient` | sender, channels | gradient of sent (N, 2 or 5, F) |
| `weight_gradient` | groups of edges, channels, functions | gradient of W |

λ = W b is computed again in each pass, 6 K F flop an edge, and never written; an edge moves 20 F bytes of its sender
and 4 (K + 3) of its own in `receive`: 2.6 kB and 10 kflop at F = 128, K = 13, in float32.
"""
