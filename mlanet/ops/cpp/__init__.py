"""Kernels for CPUs in C++.

`simd`: vectors and dual numbers · `matrix`: products of matrices · `radial`: the radial network. Of the dual-path
message, `attention`: logits, `gated`: gates, `light` and `full`: both kinds of values, `message`: the whole.
`directions`: the first look at the directions · `product`: products of nodes · `pooling`: the neighbours of an atom ·
`filtered`: LEIGNN's sums.

`build` compiles for this machine and keeps what it made (`cache`), `library` does so with the kernels on first use, of
which `listeners` hear. `calls` and `padding` bring tensors in and out, `operation` makes value, gradient and tangent of
calls, and `cpu.py` of each operation says what its kernels get.
"""
