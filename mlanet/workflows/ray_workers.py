"""Parts of work as tasks of Ray, on the machines of a cluster."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any, TypeVar

from mlanet.errors import ConfigError
from mlanet.workflows.workers import AHEAD, Handle, WorkerLostError

T = TypeVar("T")
R = TypeVar("R")


class OnRay:
    """Tasks of one CPU each; models, and folders of results, must be the same on all machines, and mlanet installed.

    Args:
        address: of a cluster; "auto" finds the one that runs here, "local" makes a small one of this machine.
        workers: at once; 1: as many as the cluster has CPUs.
    Raises:
        ConfigError: Ray is not installed, or there is no cluster at the address.
    """

    def __init__(self, address: str, workers: int) -> None:
        self._ray = ray_module()
        quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
        if address == "local":
            quiet |= {"include_dashboard": False, "num_cpus": workers if workers > 1 else None}
        try:
            self._ray.init(address=address, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ConfigError(f"Ray at '{address}' does not answer: {error}") from None
        cores = int(self._ray.cluster_resources().get("CPU", 1))
        self.ahead = AHEAD * max(1, cores if workers == 1 else workers)

    def submit(self, function: Callable[[T], R], thing: T) -> Handle[R]:
        """Hand out one thing."""
        task = self._ray.remote(num_cpus=1, max_retries=1)(_alone)
        return functools.partial(self._result, task.remote(function, thing))

    def _result(self, reference: Any) -> R | WorkerLostError:
        try:
            result: R = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError:
            raise
        except self._ray.exceptions.RayError as error:
            return WorkerLostError(f"the task that computed it was lost: {error}")
        return result

    def close(self) -> None:
        """Leave the cluster; tasks that still run are cancelled."""
        self._ray.shutdown()


def _alone(function: Callable[[T], R], thing: T) -> R:
    """In a task: on its one CPU."""
    import torch

    torch.set_num_threads(1)
    return function(thing)


def ray_module() -> Any:
    """Ray, an extra.

    Raises:
        ConfigError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise ConfigError("Ray is not installed; it is an extra: pip install 'mlanet[ray]'") from None
    return ray
