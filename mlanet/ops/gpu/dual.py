"""Arithmetic of the kernels on numbers with or without a slope: one code for values and for forward derivatives.

A number is a tuple of tiles: `(value,)`, or `(value, slope)` with the slope along a given direction of the inputs.
Which of both is known when a kernel is compiled, so plain numbers cost nothing. Constants are bare tiles.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load(pointers, offsets, mask):
    """A number from one pointer or from two, 0 where masked."""
    if len(pointers) == 2:
        return tl.load(pointers[0] + offsets, mask, 0.0), tl.load(pointers[1] + offsets, mask, 0.0)
    else:
        return (tl.load(pointers[0] + offsets, mask, 0.0),)


@triton.jit
def store(pointers, offsets, x, mask):
    """Keep a number, value and slope."""
    tl.store(pointers[0] + offsets, x[0], mask)
    if len(pointers) == 2:
        tl.store(pointers[1] + offsets, x[1], mask)


@triton.jit
def answer(pointer, offsets, x, mask, MORE: tl.constexpr):
    """Write what was asked for: the slope where there is one, else the value; or add it to what was answered before."""
    value = x[len(x) - 1]
    if MORE:
        value += tl.load(pointer + offsets, mask, 0.0)
    tl.store(pointer + offsets, value, mask)


@triton.jit
def line(SIZE: tl.constexpr, pointers):
    """Zeros (SIZE,), a number like those behind the pointers."""
    nothing = tl.zeros([SIZE], pointers[0].dtype.element_ty)
    if len(pointers) == 2:
        return nothing, nothing
    else:
        return (nothing,)


@triton.jit
def plane(ROWS: tl.constexpr, COLUMNS: tl.constexpr, pointers):
    """Zeros (ROWS, COLUMNS)."""
    nothing = tl.zeros([ROWS, COLUMNS], pointers[0].dtype.element_ty)
    if len(pointers) == 2:
        return nothing, nothing
    else:
        return (nothing,)


@triton.jit
def add(x, y):
    """x + y."""
    if len(x) == 2:
        return x[0] + y[0], x[1] + y[1]
    else:
        return (x[0] + y[0],)


@triton.jit
def shifted(x, constant):
    """x + constant."""
    if len(x) == 2:
        return x[0] + constant, x[1]
    else:
        return (x[0] + constant,)


@triton.jit
def scaled(x, constant):
    """x · constant."""
    if len(x) == 2:
        return x[0] * constant, x[1] * constant
    else:
        return (x[0] * constant,)


@triton.jit
def sub(x, y):
    """x - y."""
    return add(x, scaled(y, -1.0))


@triton.jit
def mul(x, y):
    """x y."""
    if len(x) == 2:
        return x[0] * y[0], x[1] * y[0] + x[0] * y[1]
    else:
        return (x[0] * y[0],)


@triton.jit
def kept(x, mask):
    """x where the mask holds, else 0."""
    if len(x) == 2:
        return tl.where(mask, x[0], 0.0), tl.where(mask, x[1], 0.0)
    else:
        return (tl.where(mask, x[0], 0.0),)


@triton.jit
def exp(x):
    """e^x."""
    value = tl.exp(x[0])
    if len(x) == 2:
        return value, value * x[1]
    else:
        return (value,)


@triton.jit
def log(x):
    """ln x."""
    if len(x) == 2:
        return tl.log(x[0]), x[1] / x[0]
    else:
        return (tl.log(x[0]),)


@triton.jit
def inverse(x):
    """1 / x."""
    value = 1.0 / x[0]
    if len(x) == 2:
        return value, -value * value * x[1]
    else:
        return (value,)


@triton.jit
def sigmoid(x):
    """1 / (1 + e^-x), without overflow."""
    small = tl.exp(-tl.abs(x[0]))
    value = tl.where(x[0] >= 0, 1.0, small) / (1.0 + small)
    if len(x) == 2:
        return value, value * (1.0 - value) * x[1]
    else:
        return (value,)


@triton.jit
def bell(s):
    """s (1 - s): the derivative of the sigmoid s."""
    return mul(s, shifted(scaled(s, -1.0), 1.0))


@triton.jit
def silu(x):
    """x σ(x)."""
    return mul(x, sigmoid(x))


@triton.jit
def silu_slope(x):
    """σ + x σ (1 - σ)."""
    s = sigmoid(x)
    return add(s, mul(x, bell(s)))


@triton.jit
def total(x, AXIS: tl.constexpr):
    """Σ along an axis."""
    if len(x) == 2:
        return tl.sum(x[0], AXIS), tl.sum(x[1], AXIS)
    else:
        return (tl.sum(x[0], AXIS),)


@triton.jit
def wide(x, AXIS: tl.constexpr):
    """With one more axis, of length one."""
    if len(x) == 2:
        return tl.expand_dims(x[0], AXIS), tl.expand_dims(x[1], AXIS)
    else:
        return (tl.expand_dims(x[0], AXIS),)


@triton.jit
def matmul(x, weight, PRECISION: tl.constexpr):
    """x (T, A) times a constant (A, B)."""
    if len(x) == 2:
        return (
            tl.dot(x[0], weight, input_precision=PRECISION),
            tl.dot(x[1], weight, input_precision=PRECISION),
        )
    else:
        return (tl.dot(x[0], weight, input_precision=PRECISION),)


@triton.jit
def outer(x, y, PRECISION: tl.constexpr):
    """Σ_e x_e ⊗ y_e (A, B) of x (T, A) and y (T, B)."""
    value = tl.dot(tl.trans(x[0]), y[0], input_precision=PRECISION)
    if len(x) == 2:
        slope = tl.dot(tl.trans(x[1]), y[0], input_precision=PRECISION)
        return value, slope + tl.dot(tl.trans(x[0]), y[1], input_precision=PRECISION)
    else:
        return (value,)


@triton.jit
def parted(x, PARTS: tl.constexpr):
    """(T, A) as (T, PARTS, A / PARTS)."""
    ROWS: tl.constexpr = x[0].shape[0]
    EACH: tl.constexpr = x[0].shape[1] // PARTS
    if len(x) == 2:
        return tl.reshape(x[0], (ROWS, PARTS, EACH)), tl.reshape(x[1], (ROWS, PARTS, EACH))
    else:
        return (tl.reshape(x[0], (ROWS, PARTS, EACH)),)


@triton.jit
def flat(x):
    """(T, A, B) as (T, A B)."""
    ROWS: tl.constexpr = x[0].shape[0]
    COLUMNS: tl.constexpr = x[0].shape[1] * x[0].shape[2]
    if len(x) == 2:
        return tl.reshape(x[0], (ROWS, COLUMNS)), tl.reshape(x[1], (ROWS, COLUMNS))
    else:
        return (tl.reshape(x[0], (ROWS, COLUMNS)),)


@triton.jit
def part_sums(x, PARTS: tl.constexpr):
    """(T, A) -> (T, PARTS): Σ over neighbouring columns."""
    return total(parted(x, PARTS), 2)


@triton.jit
def repeated_tile(tile, TIMES: tl.constexpr):
    """(T, A) -> (T, A TIMES): each column so many times in a row."""
    ROWS: tl.constexpr = tile.shape[0]
    COLUMNS: tl.constexpr = tile.shape[1]
    if TIMES == 1:
        return tile
    else:
        every = tl.broadcast_to(tl.expand_dims(tile, 2), (ROWS, COLUMNS, TIMES))
        return tl.reshape(every, (ROWS, COLUMNS * TIMES))


@triton.jit
def repeated(x, TIMES: tl.constexpr):
    """The same of a number."""
    if len(x) == 2:
        return repeated_tile(x[0], TIMES), repeated_tile(x[1], TIMES)
    else:
        return (repeated_tile(x[0], TIMES),)
