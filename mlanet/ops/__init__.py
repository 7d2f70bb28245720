"""Raw-tensor operations: torch in, torch out; no layer, graph or file.

**Rooms.** `message` · `edge_degree` · `neighbor_pooling` · `node_product` · `filtered_sum` · `long_range`. In each,
`reference` is the equation in plain torch, and what faster forms are compared with: `cpu` in C++, `gpu` in Triton.

**Who calls whom.** A layer calls the operation in `dispatch`, which chooses: the reference, or a kernel. A kernel is an
`Operation` (`autograd`), that is f, its gradient and its tangent, of which `autograd.apply` makes a function that torch
differentiates twice. `NativeOperation` (`cpp/operation`) and `GpuOperation` (`gpu/operation`) state these three by a
call of the library, or of Triton, so that `cpu` and `gpu` of a room say only what that call gets. While torch traces
a program, `traced` stands between the two.

**Shared.** `segment` sums over the edges of each center · `rows` edges as kernels read them · `tensor_product` paths
and coefficients · `degrees` features by degree, the radial network · `harmonics` · `digits` matrix products in fewer
digits · `cpp` sources of the kernels for CPUs · `gpu` what those for GPUs share.
"""
