"""The product of a node's features with themselves.

**Files.** `reference` the equation · `cpu` the operation in C++ (`ops/cpp`), `gpu` in Triton (`gpu_kernels`).

| kernel | programs | writes |
|---|---|---|
| `weighed_rows` | nodes, row, channels | y, or the gradient in x |
| `path_sums` | groups of nodes, path, channels | gradient of w |

The kernels walk a table of terms, sorted by what is written, so a sum stays in one program and code does not grow
with the degree; a term reads two rows, from cache. Plain torch writes (N, terms, C), 194 terms at l_in = l_out = 3.
"""
