"""Labelled files to samples, with a hard error when a label is nowhere, and an optional cache on disk."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from mlanet.data.atoms import as_labels, to_graph
from mlanet.data.cache import CachedFile, file_key, read_cache, write_cache
from mlanet.data.formats import structure_files
from mlanet.data.labels import LabelKeys, find_labels, label_names
from mlanet.data.read import Frame, read_frames
from mlanet.data.samples import Sample
from mlanet.data.sources import force_consistent
from mlanet.data.vasp_steps import converged
from mlanet.errors import ConfigError, DataError, MissingLabelError
from mlanet.quantities import NAMES, QUANTITIES, Quantity

_GROUP_KEYS = ("traj", "trajectory", "group", "config_type")


def load_samples(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    cutoff: float,
    keys: LabelKeys = LabelKeys(),  # noqa: B008 - frozen
    require: Sequence[str] = ("energy", "forces"),
    cache: Path | None = None,
    progress: bool = False,
    keep_unconverged: bool = False,
) -> list[Sample]:
    """Every frame of the files as a sample: graph, labels, where it stood, and its group.

    A frame that lacks a label that others have gets NaN there (not labelled; the audit counts them). The group is
    info's traj, trajectory, group or config_type, within its file; else the file.

    Where files hold both `energy` and `free_energy` and no key is named, the one that the forces are the derivative of
    is taken for all frames (`mlanet.data.sources`).

    With a cache folder, graphs and labels of a file are stored under a digest of the file's bytes, the cutoff and
    the keys; a cache that does not match its checksum is rebuilt with a warning.

    Args:
        paths: one or more files of any format that ASE reads, or folders of them.
        cutoff: Å.
        keys: where labels stand; the default searches.
        require: labels that must be somewhere in the files, of `mlanet.quantities`.
        cache: folder for cached graphs, or None.
        progress: show a progress bar on standard error.
        keep_unconverged: also frames whose electrons did not converge (`mlanet.data.vasp_steps`); else a warning
            says which are left out.
    Raises:
        MissingLabelError: a required label, or one that `keys` names, is in no frame; the message lists the keys
            that are there.
        DataError, GeometryError, UnsupportedElementError: from reading, naming file, frame and atom.
    """
    files = structure_files([paths] if isinstance(paths, str | os.PathLike) else paths)
    if not files:
        raise DataError("no data files given")
    if unknown := [name for name in require if name not in NAMES]:
        raise ConfigError(f"cannot require label '{unknown[0]}'; labels are {', '.join(NAMES)}")
    samples: list[Sample] = []
    names: set[str] = set()
    for path in files:
        content = _loaded(path, cutoff, keys, cache, progress, keep_unconverged)
        samples += content.samples
        names |= content.names
    if not samples:
        raise DataError(f"{', '.join(map(str, files))}: in no frame did the electrons converge")
    _require_labels(samples, names, keys, require, files)
    return force_consistent(samples) if keys.energy is None else samples


def sample_of(frame: Frame, cutoff: float, keys: LabelKeys = LabelKeys(), group: str = "") -> Sample:  # noqa: B008
    """One frame as a sample; `group` is taken where the frame names none."""
    labels = find_labels(frame.atoms, keys, frame.where)
    return Sample(
        graph=to_graph(frame.atoms, cutoff, where=frame.where, keys=keys),
        labels=as_labels(labels),
        where=frame.where,
        group=group_of(frame, group),
        sources=labels.sources,
    )


def _loaded(
    path: Path, cutoff: float, keys: LabelKeys, cache: Path | None, progress: bool, keep_unconverged: bool
) -> CachedFile:
    """The samples of one file, from the cache where that is possible; what is left out is told at every reading."""
    stored = None
    if cache is not None and path.is_file() and not keep_unconverged:
        stored = cache / f"{file_key(path, cutoff, keys)}.safetensors"
        if (hit := read_cache(stored, path)) is not None:
            return hit
    samples: list[Sample] = []
    names: set[str] = set()
    unconverged: list[int] = []
    frames = _watched(read_frames(path), path, progress)
    for frame in frames if keep_unconverged else converged(frames, path, unconverged):
        samples.append(sample_of(frame, cutoff, keys, str(path)))
        names |= label_names(frame.atoms)
    content = CachedFile(samples, names)
    if stored is not None and not unconverged:
        write_cache(stored, content, path)
    return content


def group_of(frame: Frame, fallback: str) -> str:
    """The trajectory or configuration type of a frame, made unique by its file."""
    for key in _GROUP_KEYS:
        value = frame.atoms.info.get(key)
        if value is not None:
            return f"{fallback}:{value}" if fallback else str(value)
    return fallback


def _require_labels(
    samples: Sequence[Sample], names: set[str], keys: LabelKeys, require: Sequence[str], files: Sequence[Path]
) -> None:
    """Every required or named label must be finite somewhere."""
    for quantity in QUANTITIES:
        name, key = quantity.name, getattr(keys, quantity.name)
        if name not in require and key is None:
            continue
        if any(bool(getattr(sample.labels, name).isfinite().any()) for sample in samples):
            continue
        sought = f"under '{key}')" if key is not None else "by search)"
        sought += _hint(quantity, samples)
        shown = ", ".join(sorted(names)) or "nothing"
        raise MissingLabelError(
            f"{', '.join(map(str, files))}: no frame has a label for {name} (sought {sought}. "
            f"What the files hold: {shown}. Name the right one, e.g. {name}: <key>, or do not ask for {name}"
        )


def _hint(quantity: Quantity, samples: Sequence[Sample]) -> str:
    """Where a quantity has no meaning in any of the structures, that."""
    periodic = [bool(sample.graph.pbc.any()) for sample in samples]
    if quantity.where == "periodic" and not any(periodic):
        return f"; no frame is periodic, and {quantity.name} has no meaning then"
    if quantity.where == "open" and all(periodic):
        return f"; every frame is periodic, and a {quantity.name} has no meaning then"
    return ""


def _watched(frames: Iterable[Frame], path: Path, progress: bool) -> Iterable[Frame]:
    """The same frames, with a progress bar on standard error if asked for."""
    if not progress:
        return frames
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    said, quiet = f"reading {path.name}", not console.is_terminal
    return track(frames, said, total=None, console=console, transient=True, disable=quiet)
