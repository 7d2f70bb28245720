"""The message of the dual-path attention.

**Files.** `reference` the equations · `table` pieces of them for tables of neighbours · `cpu` the message in C++
(`ops/cpp`), `gpu` in Triton.
"""
