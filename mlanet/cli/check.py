"""`mlanet check`: the physical laws, asked of a user's model."""

from __future__ import annotations

from mlanet.cli.output import Json, Model


def check(model: Model, json: Json = False) -> None:
    """Ask a model for the laws of physics."""
    raise NotImplementedError
