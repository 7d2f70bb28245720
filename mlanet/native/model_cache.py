"""Native files of models, kept once the engine was compared with the model here: so that a later start needs no torch.

They lie in `$MLANET_CACHE/models`, or `~/.cache/mlanet/models`, guarded as kernels are (`mlanet.ops.cpp.cache`): what
is damaged, renamed or of somebody else is passed over, and made anew.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from pathlib import Path

from mlanet.errors import KernelError
from mlanet.native import engine, file
from mlanet.ops.cpp import build, cache
from mlanet.version import __version__

ROOM, SUFFIX = "models", ".mlanet"
MOST = 64
"""Files that are kept, the newest ones."""


def read(digest: str, precision: str | None) -> bytes | None:
    """The native file of a model; None where there is none that can be trusted.

    - digest: of the model's file · precision: in which it is to be computed; None for the model's own
    """
    place = cache.folder(ROOM)
    return None if place is None else cache.read(place, _name(digest, precision), SUFFIX)


def write(digest: str, precision: str | None, data: bytes) -> None:
    """Keep a native file, whole or not at all; a disk that does not take it costs the time of torch again, no more."""
    if (place := cache.folder(ROOM)) is None:
        return
    cache.tidy(place)
    cache.write(place, _name(digest, precision), data, SUFFIX)
    with contextlib.suppress(OSError):
        there = sorted(place.glob(f"*{SUFFIX}"), key=lambda one: one.stat().st_mtime, reverse=True)
        for old in there[MOST:]:
            old.unlink()


def _name(digest: str, precision: str | None) -> str:
    """Of everything that the file follows, and of the engine that it was compared with."""
    text = "\n".join([digest, precision or "own", __version__, _made_by(os.environ.get("CXX"))])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


@functools.cache
def _made_by(_: str | None) -> str:
    """What writes a file, and what computes it: sources, compiler (as the environment names it) and processor."""
    here = Path(file.__file__)
    sources = (here, here.with_name("export.py"), here.with_name("potential.py"), *engine.sources())
    with contextlib.suppress(KernelError):
        return build.identity(sources)
    return "no compiler"
