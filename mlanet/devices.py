"""The device that a word stands for."""

from __future__ import annotations

import torch

from mlanet.errors import ConfigError

DEVICES = "cpu, cuda and cuda:N"


def device_called(name: str, key: str = "device", more: str = "") -> torch.device:
    """`cpu`, `cuda` or `cuda:N`, where this machine has it.

    >>> device_called("cpu")
    device(type='cpu')

    Args:
        name: as a user gave it.
        key, more: where it was given, and what else may stand there, for the message.
    Raises:
        ConfigError: another word, or a GPU that is not there.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"{key} '{name}': there is no such device; there are {more}{DEVICES}") from None
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            had = f"{count} of them" if count else "no CUDA device that torch can use"
            raise ConfigError(f"{key} '{name}': this machine has {had}")
    return device
