"""Raw-tensor operations: torch in, torch out; no layer, graph or file.

**Rooms.** `message` · `edge_degree` · `neighbor_pooling` · `node_product` · `filtered_sum` · `long_range`. In each,
`reference` is the equation in plain torch, and what faster forms are compared with: `cpu` in C++, `gpu` in Triton.

**Shared.** `segment` sums over the edges of each center · `rows` edges as kernels read them · `tensor_product` paths
and coefficients · `autograd` first and second derivatives of an operation, `traced` for torch's tracers · `cpp` sources
of the kernels for CPUs · `gpu` what those for GPUs share · `digits` matrix products in fewer digits.
"""
