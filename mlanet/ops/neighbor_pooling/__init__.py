"""Sum and smooth maximum of the neighbours' features.

**Files.** `reference` the equation · `cpu` the operation in C++ (`ops/cpp`), `gpu` in Triton (`gpu_kernels`).

| kernel | programs | writes |
|---|---|---|
| `pooled_neighbors` | center | sum and maximum (N, 2, C) |
| `envelope_gradient` | center | gradient of u |
| `feature_gradient` | sender | gradient of the features |

**On GPUs** so few edges are taken at a time that a plane of edges × channels is eight registers of each thread of one
warp: four edges of 64 channels in float32. So sums over channels stay in the warp. Bytes gathered for an edge
in float32: 4 C, for the gradient in the features 12 C.
"""
