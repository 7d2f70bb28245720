"""Kernels in Triton of the dual-path message and its first and second derivatives, over a list of edges.

`launch.message`, `launch.gradient`, `launch.tangent` are `block.message` and its derivatives for NVIDIA GPUs of
capability 8.0 and later, in float32 or float64. They import triton, this module does not.

**Files.** `dual` arithmetic on values with or without a slope · `tiles` what kernels load and answer · `networks` (z,
gates, filters) and `logits` of a tile of edges, and back · `forward`, `backward`, `senders` the kernels · `launch` runs
them · `sizes` what they are compiled for · `compiled` registers and spills without a GPU · `count` work and bytes.

**Passes.** A program has a center (or a sender) and walks its edges in tiles of 16, all heads, channels and degrees at
once. Each pass computes z, gates, φ and ψ of an edge once.

| kernel | programs | writes |
|---|---|---|
| `attend` | center | message (N, M, C), or logits (E, H) and what normalises them (N, H), or both |
| `edge_gradient` | centers | gradients of here, factor, u, RBF, Y; pull (E, H) in the attention, its mean (N, H) |
| `logit_gradient` | centers | push (E, H) in the logits; gradient of query; adds to here, u, RBF, Y |
| `sent_gradient` | sender | gradients of sent, of near |
| `key_gradient` | sender | gradient of key; adds to near |
| `channel_weight_gradient` | groups of edges | gradients of gates and of the last layer |

The message is one sweep with a running maximum, as in FlashAttention: what is summed fades when the maximum grows. With
`combine: sum` only one of two sums does, for only the geometric path is weighed by attention. Softmax backwards wants
Σ A pull of a center, which `edge_gradient` sums on its way. What is kept of an edge is logit, pull and push, 12 H bytes
in float32 while a call lasts (48 for four heads, where RBF and Y of the edge hold 68 at l_max 2).

**Registers** are what limits. z is made in slices of 16 columns, because the factors of a product in full float32 all
wait in registers, and a factor that two products share waits from one to the other. Gates are computed by group and
spread to channels where they meet features. With up to eight radial functions φ, ψ and D RBF are sums of B terms.
What a loop reads for every tile the compiler moves in front of it: factors of products wait in shared memory, which is
welcome; rows of weights would wait in registers, so they are read at a place that it cannot know (`tiles.veil`).

**No atomics.** Sums over a center's edges stay in its program. Sums over a sender's edges are made in the order of
the senders, a permutation sorted once for a list. Weights are summed by program into a buffer and then over it. So
the same inputs give the same bits.

**Second derivatives.** The gradient of <a, ∇f> is the slope of ∇f along a. The same kernels on numbers with a slope
(`dual`) give it, with that of the message for `up`.

**Work of one edge** by `count.work`, C = 64, H = 4, K = 8, R = 64, B = 8, G = 4, no hidden layer, l_max 1 to 3.
Bytes are of the other atom and of the edge; weights and what belongs to the center stay in the first-level cache.

| | kflop | kB |
|---|---|---|
| message | 13.4, 24.1, 29.4 | 1.9, 3.8, 6.5 |
| – the least (`benchmarks/floors.py`; bytes, where atoms stay in cache) | 13.1, 20.1, 27.8 | 0.06, 0.08, 0.11 |
| gradient of the inputs: attention, and four passes | 53.5, 90.4, 111.5 | 5.5, 10.1, 16.6 |

What the message has above the least is padding: gates of three degrees in a tile of four, six terms of a logit in
eight. Half of it at l_max 2 are matrix products in full float32, which `--matmul tf32` (`mlanet.precision`) puts on
tensor cores.

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
