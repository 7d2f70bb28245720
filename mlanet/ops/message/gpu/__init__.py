"""The dual-path message (`mlanet.ops.message.reference.message`) on GPUs.

**Files.** `operation` for autograd · `launch` runs the kernels · `tiles` what kernels load and answer · `networks` (z,
gates, filters) and `logits` of a tile of edges, and back · `forward`, `backward`, `senders` the kernels · `sizes` what
they are compiled for.

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

**Work of one edge** (`benchmarks/triton_work.py`), C = 64, H = 4, K = 8, R = 64, B = 8, G = 4, no hidden layer,
l_max 1 to 3. Bytes are of the other atom and of the edge; weights and what belongs to the center stay in the
first-level cache.

| | kflop | kB |
|---|---|---|
| message | 13.4, 24.1, 29.4 | 1.9, 3.8, 6.5 |
| – the least (`benchmarks/floors.py`; bytes, where atoms stay in cache) | 13.1, 20.1, 27.8 | 0.06, 0.08, 0.11 |
| gradient of the inputs: attention, and four passes | 53.5, 90.4, 111.5 | 5.5, 10.1, 16.6 |

What the message has above the least is padding: gates of three degrees in a tile of four, six terms of a logit in
eight. Half of it at l_max 2 are matrix products in full float32, which `--matmul tf32` (`mlanet.precision`) puts on
tensor cores.
"""
