"""What matrix products in TF32 or bf16 would cost in accuracy, on any machine: their inputs are rounded by hand.

Every matrix product of the plain kernels, in energy and forces alike, gets inputs rounded to 10 (TF32) or 7 (bf16) bits
of fraction; products are summed in float32, as tensor cores do. Nothing is said of time.

    python benchmarks/digits.py                                       the packaged model and structures
    python benchmarks/digits.py test.extxyz --model run/model.safetensors --output benchmarks/results/digits.csv
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import mlanet
from mlanet.checkpoint import load_model, model_path
from mlanet.cli.output import print_table
from mlanet.data.atoms import to_graph
from mlanet.data.read import read_frames
from mlanet.graph import AtomicGraph
from mlanet.precision import MatmulCost, cost

BITS = {"tf32": 10, "bf16": 7}
"""Of the fraction; float32 has 23."""

EXAMPLES = [Path(mlanet.__file__).parent / "examples" / name for name in ("si.cif", "li.POSCAR", "mo.extxyz")]
aten = torch.ops.aten
PRODUCTS = {aten.mm.default: (0, 1), aten.bmm.default: (0, 1), aten.addmm.default: (1, 2), aten.baddbmm.default: (1, 2)}
"""Operators of matrix products, and which of their arguments are multiplied."""


class Rounded(TorchDispatchMode):
    """Matrix products of float32 tensors with inputs of fewer bits."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits, self.products = bits, 0

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if operator in PRODUCTS and args[0].dtype == torch.float32:
            self.products += 1
            factors = PRODUCTS[operator]
            args = [rounded(one, self.bits) if place in factors else one for place, one in enumerate(args)]
        return operator(*args, **(kwargs or {}))


def rounded(values: Tensor, bits: int) -> Tensor:
    """To the nearest number with so many bits of fraction, ties to even.

    >>> rounded(torch.tensor([1.0 + 2**-11 + 2**-13, 1.0 + 2**-12]), 10).tolist() == [1.0 + 2**-10, 1.0]
    True
    """
    cut = 23 - bits
    whole = values.contiguous().view(torch.int32)
    half = (1 << (cut - 1)) - 1 + ((whole >> cut) & 1)
    return (((whole + half) >> cut) << cut).view(torch.float32)


def costs(model: str, files: list[Path]) -> Iterator[MatmulCost]:
    """Of each structure in each kind of products."""
    potential = load_model(model_path(model), dtype=torch.float32).eval().with_kernels("plain")
    for graph in graphs(files, potential.cutoff):
        exact = potential(graph)
        for kind, bits in BITS.items():
            with Rounded(bits) as mode:
                prediction = potential(graph)
            assert mode.products
            yield cost(kind, prediction, exact, graph)


def graphs(files: list[Path], cutoff: float) -> Iterator[AtomicGraph]:
    """Of every frame."""
    for path in files:
        for frame in read_frames(path):
            yield to_graph(frame.atoms, cutoff, where=frame.where)


def main() -> None:
    """Print medians and largest values, and write a row for each structure and kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, default=EXAMPLES)
    parser.add_argument("--model", default="elemental")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    rows = list(costs(options.model, options.files))
    lines = []
    for kind in BITS:
        here = [one for one in rows if one.kind == kind]
        for name, unit in (("energy", "meV/atom"), ("forces", "meV/Å"), ("stress", "GPa")):
            values = torch.tensor([getattr(one, name) for one in here], dtype=torch.float64)
            values = values[values.isfinite()]
            if len(values):
                lines.append((kind, name, f"{float(values.median()):.2g}", f"{float(values.max()):.2g}", unit))
    print_table(f"{len(rows) // len(BITS)} structures", ("products", "quantity", "median>", "largest>", "unit"), lines)
    if options.output is not None:
        with options.output.open("w", newline="") as file:
            writer = csv.DictWriter(file, [one.name for one in dataclasses.fields(MatmulCost)])
            writer.writeheader()
            writer.writerows(dataclasses.asdict(one) for one in rows)


if __name__ == "__main__":
    main()
