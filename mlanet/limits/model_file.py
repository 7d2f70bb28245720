"""The limits of a model file, measured and written into it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from mlanet.checkpoint import load_model, read_model_header, save_model
from mlanet.data.samples import Sample
from mlanet.limits.fit import fit_domain
from mlanet.potential import Potential

QUANTITIES = ("energy", "forces", "stress")


def find_limits(
    path: Path,
    training: Sequence[Sample],
    held: Sequence[Sample],
    device: torch.device | str = "cpu",
    output: Path | None = None,
    max_edges: int = 20_000,
    again: bool = True,
    ready: Callable[[Potential], object] | None = None,
) -> str:
    """Fit a model file's `Domain` and write it into the file, whose weights stay; what was found, in a line.

    Args:
        path: of the model · training: samples it learnt from · held: samples it did not
        device: to compute on · output: another file to write; `path` if None · max_edges: bounds a batch
        again: also where the file has limits already · ready: is handed the potential first, to choose its kernels
    Raises:
        CheckpointError: no such model, or a place that cannot be written.
    """
    card = read_model_header(path).card
    potential = load_model(path, device=device)
    if potential.domain is not None and not again:
        return f"limits: those in {path.name} are kept"
    if ready is not None:
        ready(potential)
    domain = fit_domain(potential, training, held, max_edges=max_edges)
    if domain is None:
        return "limits: this model shows no features of its atoms, so where it can be trusted stays unknown"
    potential.domain = domain
    save_model(potential, output or path, card)
    known = [name for name in QUANTITIES if len(getattr(domain, name))]
    errors = f"standard errors of {', '.join(known)}" if known else "no standard errors, too few frames were held back"
    return f"limits in {(output or path).name}: the domain of {len(training)} training structures; {errors}"
