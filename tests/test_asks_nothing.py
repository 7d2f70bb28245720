"""A step asks nothing of its device: the host runs ahead of a GPU, and a step can be captured as a CUDA graph.

Tensors of the `meta` device have shapes and no values, so every question whose answer the host would need (`item`,
`nonzero`, boolean indexing, `bincount().max()`, `.cpu()`) is an error there. Like a GPU, it gets edges as a list.
"""

from __future__ import annotations

import functools
import traceback

import pytest
import torch
from torch.overrides import TorchFunctionMode

from mlanet.graph import AtomicGraph, Labels
from mlanet.potential import Potential
from mlanet.profiling.compare import neighbours_of, species_of
from mlanet.profiling.ours import own
from mlanet.profiling.subject import Request
from mlanet.profiling.systems import system
from mlanet.training.config import LossConfig
from mlanet.training.loss import Residuals, loss
from mlanet.training.state import Averaged

MODELS = ("mlanet_l1", "mlanet_l2", "mlanet_l3", "mlanet_l2_full", "mlanet_l2:attention=fctp", "mlanet_l2:combine=sum")
MODELS += ("mlanet_l2:repulsion=zbl,charge=total", "leignn", "leignn:update=painn,repulsion=none")


@functools.cache
def there(name: str) -> tuple[Potential, AtomicGraph]:
    """A model of two layers, after which they repeat themselves, and a crystal on the device without values."""
    crystal = system("LiCoO2:12")
    subject = own(
        f"{name}{',' if ':' in name else ':'}layers=2@plain", Request(species_of([crystal]), neighbours_of([crystal]))
    )
    return subject.module.to("meta"), subject.prepare([crystal]).to("meta")


@pytest.mark.parametrize("name", MODELS)
def test_energy_forces_and_stress(name: str) -> None:
    """Of a conservative model, in evaluation."""
    potential, graph = there(name)
    found = potential.eval()(graph)
    assert potential.conservative
    shapes = [tuple(one.shape) for one in (found.energy, found.forces, found.stress)]
    assert shapes == [(1,), (12, 3), (1, 3, 3)] and found.forces.device.type == "meta"


class Watch(TorchFunctionMode):
    """Notes in `sent` where tensors are made of Python numbers."""

    def __init__(self, sent: list[str]) -> None:
        super().__init__()
        self.sent = sent

    def __torch_function__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if function.__name__ in ("tensor", "new_tensor", "as_tensor", "from_numpy"):
            self.sent.append(f"{function.__name__} in {traceback.extract_stack()[-2].filename}")
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", MODELS)
def test_a_training_step(name: str) -> None:
    """Loss on all three with holes in the labels, second derivatives, clipping, optimiser, average of the weights.

    Nor is anything sent to the device: no tensor of the network is made of Python numbers on the way. The host waits
    for such a copy, and no CUDA graph can hold it.
    """
    potential, graph = there(name)
    parameters = list(potential.train().parameters())
    average, optimizer = Averaged(potential, 0.99), torch.optim.AdamW(parameters, amsgrad=True)
    labels = Labels(torch.zeros(1, dtype=torch.float64), torch.zeros(12, 3), torch.zeros(1, 3, 3)).to("meta")
    sent: list[str] = []
    with Watch(sent):
        assert torch.tensor(0.0).ndim == 0 and sent.pop()  # it does see them
        prediction = potential(graph)
    residuals = Residuals(prediction, labels, graph)
    total = loss(residuals, residuals.counts(), LossConfig())
    with Watch(sent):
        total.backward()
    assert not sent
    assert sum(one.grad is not None for one in parameters) > 0.8 * len(parameters)
    torch.nn.utils.clip_grad_norm_(parameters, 3.0)
    optimizer.step()
    average.update(potential, 1)


def test_a_question_would_be_seen() -> None:
    """A cap on the neighbours (`leignn_paper`) selects edges by a mask, whose number the host must know."""
    potential, graph = there("leignn_paper")
    with pytest.raises(NotImplementedError):
        potential(graph)
