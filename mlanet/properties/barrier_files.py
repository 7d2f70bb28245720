"""A barrier in a folder: images, profile and picture, from which a second run goes on."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from ase import Atoms

from mlanet.data.read import read_frames
from mlanet.data.write import frame_text
from mlanet.files import write_columns, write_result, write_whole
from mlanet.limits import Assessment, Watch
from mlanet.ownership import owned
from mlanet.plots import Drawing
from mlanet.properties.band import Band, Barrier
from mlanet.properties.files import Folder
from mlanet.properties.plots import barrier_picture
from mlanet.properties.rest import Rest
from mlanet.workflows.relax import Step
from mlanet.workflows.resuming import structure_print

PATH, PROFILE, PICTURE, RESULT = "path.extxyz", "profile.csv", "barrier.png", "result.json"
SAVE_EVERY = 5
"""Steps after which the images are written."""


class Wanted(NamedTuple):
    """How to find a path: see `Band`."""

    images: int = 7
    fmax: float = 0.03
    steps: int = 300
    method: str = "fire"
    relax: bool = True
    as_ordered: bool = False


class Found(NamedTuple):
    """A barrier, its numbers with the word on the training set, the files written, and a picture still to be drawn."""

    barrier: Barrier
    numbers: dict[str, object]
    files: tuple[Path, ...]
    picture: Drawing


def barrier_in(
    path: Path,
    ends: tuple[Atoms, Atoms],
    names: tuple[str, str],
    wanted: Wanted,
    model: dict[str, object],
    *,
    watch: Callable[[Iterable[Step]], Iterable[Step]] = lambda course: course,
    assessment: Callable[[], Assessment] | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Found:
    """Compute a barrier in a folder, or go on with the one that is there.

    Args:
        path: of the folder; one of other ends, another model or another number of images is refused.
        ends: with the same calculator.
        names: of the ends, for errors.
        wanted: how; what the folder has is taken further where `fmax` and `steps` ask for more.
        model: what decides the answer beside the ends, such as digest and precision.
        watch: passes the steps on; one that ends early ends the run, which is then written as it is.
        assessment: of the calculator's last answer.
        tell: is handed a line where something goes on.
    Raises:
        MLANetError: as `Band` and `Folder`.
    """
    settings = {"property": "neb", **model, "start": structure_print(ends[0]), "end": structure_print(ends[1])}
    settings |= {"images": wanted.images, "relax": wanted.relax, "as_ordered": wanted.as_ordered}
    folder = Folder(path, settings)
    with owned(path, folder.what):
        place = path / PATH
        known = [frame.atoms for frame in read_frames(place)] if place.exists() else []
        if known:
            tell(f"going on with the {len(known)} images of {place}")
        band = Band(
            *ends,
            images=wanted.images,
            relax=wanted.relax,
            rest=Rest(min(wanted.fmax, 0.02)),
            names=names,
            as_ordered=wanted.as_ordered,
            known=known,
        )
        folder.claim()
        if not known:
            _save(place, band.images)
        for step in watch(band.run(wanted.fmax, wanted.steps, wanted.method)):
            if step.number % SAVE_EVERY == 0:
                _save(place, band.images)
        result = band.result(wanted.fmax)
        _save(place, result.images, with_results=True)
        numbers = result.numbers | _assessed(result, ends[0].calc, assessment)
        files = (place, write_columns(path / PROFILE, result.profile), path / RESULT)
        write_whole(path / RESULT, (json.dumps(numbers, indent=2) + "\n").encode())
        title = ends[0].get_chemical_formula("metal")
        draw = functools.partial(barrier_picture, path / PICTURE, result, title)
        return Found(result, numbers, files, Drawing(path / PICTURE, draw))


def _assessed(result: Barrier, calculator: object, assessment: Callable[[], Assessment] | None) -> dict[str, object]:
    """The gravest word on the images."""
    if assessment is None:
        return {}
    watch = Watch()
    for k, image in enumerate(result.images):
        asked = image.copy()
        asked.calc = calculator
        asked.get_potential_energy()
        watch.sees(assessment(), f"image {k}")
    return watch.numbers()


def _save(path: Path, images: Iterable[Atoms], with_results: bool = False) -> None:
    """All images, whole; while they move, only where they are."""
    frames = []
    for k, image in enumerate(images):
        frame = image.copy()
        frame.info["image"] = k
        if with_results:
            frame.calc = image.calc
        frames.append(frame_text(frame, f"image {k}"))
    write_result(path, "".join(frames).encode())
