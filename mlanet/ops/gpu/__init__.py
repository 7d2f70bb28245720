"""Kernels in Triton for NVIDIA GPUs of capability 8.0 and later, in float32 and float64: twins of those in C++.

Values, first and second derivatives of what runs over a list of edges, in memory of the size of the atoms.

**Files.** `dual` arithmetic on values with or without a slope · `by_sender` the transposed order of edges · `start` how
kernels are started · `operation` value, gradient and tangent of it · `gather` what kernels do with a tile of edges. The
kernels are with what they compute: `message/gpu`, and `gpu_kernels` of the other operations; triton is imported when
the first is run. `tests/footprints.py` compiles
them without a GPU.

**No atomics.** Sums over a center's edges stay in its program. Sums over a sender's edges are made in the order of
the senders, a permutation sorted once in a step. Weights are summed by program into a buffer and then over it. So
the same inputs give the same bits here; torch's own sums around them do with `torch.use_deterministic_algorithms`.

**Second derivatives.** The gradient of <a, ∇f> is the slope of ∇f along a. The same kernels on numbers with a slope
(`dual`) give it, with that of the message for `up`.

No GPU has run the kernels yet: the interpreter proves the numbers, the compiler that they fit.
"""
