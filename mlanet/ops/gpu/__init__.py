"""Kernels in Triton of the dual-path message and its first and second derivatives, over a list of edges.

`launch.message`, `launch.gradient`, `launch.tangent` are `block.message` and its derivatives for NVIDIA GPUs of
capability 8.0 and later, in float32 or float64. They import triton, this module does not.

**Files.** `dual` arithmetic on values with or without a slope · `tiles` what all kernels do with a tile of edges ·
`forward`, `backward`, `senders` the kernels · `launch` runs them · `sizes` what they are compiled for · `compiled`
registers and spills without a GPU.

**Passes.** A program has a center (or a sender) and mostly a head, and walks its edges in tiles of 16.

| kernel | programs | writes |
|---|---|---|
| `attend` | center, head | share = attention / u (E, H) |
| `mix`, for each degree | center, head | message (N, M, C) |
| `edge_gradient`, for each degree | centers | gradients of here, factor, u, RBF, Y; pull (E, H) in the attention |
| `logit_gradient` | centers | push (E, H) in the logits; gradient of query; adds to here, u, RBF, Y |
| `sent_gradient`, for each degree | sender, head | gradients of sent, of near by head |
| `key_gradient` | sender, head | gradient of key; adds to near |
| `channel_weight_gradient`, for each degree | groups of edges, head | gradients of gates and of the last layer |

z, gates, φ and ψ are computed again in each pass from node features and RBF, two small matrix products a tile. What
is kept of an edge is `share`, `pull` and `push`, 12 H bytes in float32 while a call lasts (48 for four heads, where
RBF and Y of the edge hold 68 at l_max 2): less than computing the attention again from keys in each pass would read.
One kernel for all degrees would fill the registers several times over and take minutes to compile.

**No atomics.** Sums over a center's edges stay in its program. Sums over a sender's edges are made in the order of
the senders, a permutation sorted once for a list. Weights are summed by program into a buffer and then over it. So
the same inputs give the same bits.

**Second derivatives.** The gradient of <a, ∇f> is the slope of ∇f along a. The same kernels on numbers with a slope
(`dual`) give it, with that of the message for `up`.

**Traffic of one edge,** bytes in float32, M = (L+1)² rows, C channels, H heads of key width K, R the width of z, B
radial functions. Weights and what belongs to the center are read once a tile and stay in the first-level cache.

| pass | gathered from the other atom | of the edge |
|---|---|---|
| `attend` | 4 (M H K + H R) | 4 H (B + M + 5) + 8 H |
| `mix` | 4 (M + L + 1) C + 4 (L+1) H R | 4 (L+1) H (B + 2) + 4 H M + 8 (L+1) H |

At L = 2, C = 64, H = 4, K = 8, R = 64, B = 8 the message gathers 2.2 + 6.1 kB and reads 0.4 + 0.7 kB of the edge. Of
these 3.7 kB, sent, key and near, and 0.1 kB are distinct, which is the floor; the rest is read again, by head and
degree, while it is in cache. Where features fit the second-level cache (ten thousand atoms), memory sees the 0.1 kB.
Arithmetic: gates, φ and ψ are 6 R C (L+1) = 74 kflop; z and the hidden layer, computed for each head and degree with B
padded to 16, another 49. So in full float32 the matrix products rule and not the traffic; `--matmul tf32`
(`mlanet.precision`) puts them on tensor cores.

No GPU has run the kernels yet: the interpreter proves the numbers, the compiler that they fit.

**Filtered sums and products of nodes** (`filtered`, `product` the operations, `…_kernels`, `…_launch` as above,
`compiled_sums`) have any number of channels and functions: a program has 32 channels and 32 functions at most.

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

**First directions and views** are operations of the same kind: `directions` and `views`, with `direction_kernels`,
`view_kernels`, what both do with a tile (`gather`), how they are started (`start`), `compiled_surroundings`.

| kernel | programs | writes |
|---|---|---|
| `directions` | center | h (N, M − 1, C) |
| `edge_gradient` | center | gradients of u, RBF and Y |
| `sender_gradient` | sender | gradient of s |
| `last_gradient`, for each degree | groups of centers (and of hidden units) | gradient of the last layer |
| `first_gradient` | groups of centers and of hidden units | gradient of the first layer, if there are two |
| `surroundings` | center | both views (N, 2, C) |
| `envelope_gradient` | center | gradient of u |
| `feature_gradient` | sender | gradient of the features |

They take so few edges at a time that a plane of edges × channels is eight registers of each thread of one warp: four
edges of 64 channels in float32. So sums over channels stay in the warp, and u, Y, RBF and the weights of linear filters
are used in the registers where they were loaded. With a hidden layer, four warps take 16 edges, and 16 hidden units at
a time. Nothing of an edge is kept between the kernels. Bytes gathered for an edge in float32: directions 4 C, their
gradient in s 4 (M − 1) C; views 4 C, their gradient in the features 12 C.
"""

from __future__ import annotations

from mlanet.ops.gpu.sizes import obstacle

__all__ = ["obstacle"]
