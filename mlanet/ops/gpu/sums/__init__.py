"""Filtered sums of scalar-vector networks (`mlanet.ops.filtered_sum`) and products of nodes (`mlanet.ops.products`).

**Files.** `filtered`, `product` the operations, `…_kernels`, `…_launch` what runs and how.

Any number of channels and functions: a program has 32 channels and 32 functions at most.

| kernel | programs | writes |
|---|---|---|
| `receive` | center, channels | m and w (N, 4, F) |
| `edge_gradient` | center, functions | gradients of b (E, K), û (E, 3) |
| `sent_gradient` | sender, channels | gradient of sent (N, 2 or 5, F) |
| `weight_gradient` | groups of edges, channels, functions | gradient of W |
| `weighed_rows` | nodes, row, channels | y, or the gradient in x |
| `path_sums` | groups of nodes, path, channels | gradient of w |

λ = W b is computed again in each pass, 6 K F flop an edge, and never written; an edge moves 20 F bytes of its sender
and 4 (K + 3) of its own in `receive`: 2.6 kB and 10 kflop at F = 128, K = 13, in float32.
The product walks a table of terms, sorted by what is written, so a sum stays in one program and code does not grow
with the degree; a term reads two rows, from cache. Plain torch writes (N, terms, C), 194 terms at l_in = l_out = 3.
"""
