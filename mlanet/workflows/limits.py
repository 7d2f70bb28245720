"""Measure the limits of a model file that was trained before they were, or elsewhere."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from mlanet.checkpoint import model_path, packaged_models, read_model_header
from mlanet.data.atoms import LabelKeys
from mlanet.data.dataset import load_samples
from mlanet.data.splits import random_split
from mlanet.errors import ConfigError, UnsupportedElementError, named
from mlanet.kernels import use_kernels
from mlanet.limits import find_limits
from mlanet.supported import require_species

SHARE = 0.2
"""Of the files, held back where no other files are."""


def calibrate_file(
    model: str,
    files: Sequence[Path],
    held: Sequence[Path],
    keys: LabelKeys,
    output: Path | None = None,
    tell: Callable[[str], None] = print,
    keep_unconverged: bool = False,
) -> str:
    """Write reach and standard errors into a model file, whose weights stay; what was found, in a line.

    Args:
        model: name of a packaged model, or a path · files: the training set
        held: labelled structures that the model has not seen; none: a fifth of the files, which the errors then follow
        keys: where labels stand · output: another model file; needed for packaged models
        tell: is told what a reader should know beforehand
        keep_unconverged: also frames whose electrons did not converge, see `load_samples`
    Raises:
        ConfigError: a packaged model without an output.
        DataError: files or frames that cannot be used, or elements that the model does not know.
    """
    if model in packaged_models() and output is None:
        raise ConfigError(f"{model} ships with the package and is not changed; name a copy with --output")
    path = model_path(model)
    header = read_model_header(path)
    training = load_samples(files, header.config.cutoff, keys, keep_unconverged=keep_unconverged)
    if held:
        kept = load_samples(held, header.config.cutoff, keys, keep_unconverged=keep_unconverged)
    else:
        parts = random_split(len(training), [1 - SHARE, SHARE], seed=0)
        training, kept = ([training[index] for index in part] for part in parts)
        tell(
            f"note: {len(kept)} structures are held back to measure errors; where the model was trained on them, "
            "its errors are larger than what is measured here (give --held-out)"
        )
    for sample in (*training, *kept):
        try:
            require_species(sample.graph.numbers, header.statistics.species)
        except UnsupportedElementError as error:
            raise named(error, sample.where) from None
    answering = functools.partial(use_kernels, kernels="auto", inference=True)
    return find_limits(path, training, kept, output=output, ready=answering)
