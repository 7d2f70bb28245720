"""The first look at the directions around an atom (“edge-degree embedding”).

**Files.** `reference` the equation · `cpu` the operation in C++ (`ops/cpp`), `gpu` in Triton (`gpu_kernels`).

| kernel | programs | writes |
|---|---|---|
| `directions` | center | h (N, M − 1, C) |
| `edge_gradient` | center | gradients of u, RBF and Y |
| `sender_gradient` | sender | gradient of s |
| `last_gradient`, for each degree | groups of centers (and of hidden units) | gradient of the last layer |
| `first_gradient` | groups of centers and of hidden units | gradient of the first layer, if there are two |

**On GPUs** so few edges are taken at a time that a plane of edges × channels is eight registers of each thread of one
warp: four edges of 64 channels in float32. So sums over channels stay in the warp, and u, Y, RBF and the weights of
linear filters are used in the registers where they were loaded. With a hidden layer, four warps take 16 edges, and 16
hidden units at a time. Nothing of an edge is kept between the kernels.
Bytes gathered for an edge in float32: 4 C, for the gradient in s 4 (M − 1) C.
"""
