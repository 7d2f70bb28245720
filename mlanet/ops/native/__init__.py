"""Kernels for CPUs in C++: vectors and dual numbers (`simd`), products of matrices (`matrix`), the radial network
(`radial`), logits and weights of neighbours (`attention`), the message (`message`), the first look at the directions
(`directions`). `library` compiles them on first use, `calls` offers them as operations on tensors.
"""
