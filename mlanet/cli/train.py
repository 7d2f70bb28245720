"""`mlanet train`: one YAML, overridden by `key=value` words, becomes a trained model."""

from __future__ import annotations

from mlanet.cli.output import Json


def train(json: Json = False) -> None:
    """Train."""
    raise NotImplementedError
