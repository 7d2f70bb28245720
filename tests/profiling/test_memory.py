"""Bytes that are counted are those that are there."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from mlanet.data.atoms import to_graph
from mlanet.memory import LiveBytes, free_bytes, highest_resident, is_out_of_memory, peak_bytes
from mlanet.models import read_model_config
from mlanet.potential import Potential
from mlanet.profiling.ledger import booked, summed
from mlanet.profiling.saved import saved_bytes
from mlanet.profiling.systems import system
from mlanet.statistics import Statistics

MIB = 2**20


def test_what_is_freed_counts_no_more() -> None:
    """Two arrays at once, then one: the peak is of the two; views and in-place work add nothing."""

    def run() -> None:
        first = torch.zeros(MIB // 4)
        second = first + 1
        second.add_(1)
        assert second.view(-1, 2)[0].sum() == 4
        del first
        torch.ones(MIB // 8)

    with LiveBytes() as counted:
        run()
    assert counted.peak == pytest.approx(2 * MIB, abs=64)
    assert counted.live == 0


def allocated_by_torch(run) -> int:  # type: ignore[no-untyped-def]
    """The same peak from the allocator's own events."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    events = [one for one in profiled.profiler.kineto_results.events() if one.name() == "[memory]"]
    live = peak = 0
    for one in sorted(events, key=lambda event: event.start_ns()):
        live += one.nbytes()
        peak = max(peak, live)
    return peak


@pytest.mark.parametrize("preset", ["mlanet_l2", "leignn"])
@pytest.mark.parametrize("training", [False, True])
def test_two_counts_of_the_peak_agree(preset: str, training: bool) -> None:
    """Storages that come and go, and the allocator's events: the same bytes through double backward."""
    graph = to_graph(system("Si:64"), 6.0)
    potential = Potential.build(read_model_config(preset), Statistics.unit((14,), 28.0)).float().train(training)

    def run() -> None:
        found = potential(graph)
        if training:
            (found.energy.sum() + found.forces.abs().sum()).backward()
        potential.zero_grad(set_to_none=True)

    run()
    assert peak_bytes(run) == pytest.approx(allocated_by_torch(run), rel=1e-3)


def test_saved_tensors_belong_to_their_module() -> None:
    """A linear layer keeps its input, a SiLU its own; parameters count nothing, and what is kept twice counts once."""
    network = nn.Sequential(nn.Linear(100, 50), nn.SiLU(), nn.Linear(50, 10))
    x = torch.ones(1000, 100)
    kept = saved_bytes(network, lambda: network(x).sum())
    assert kept == {"0": 400_000, "1": 200_000, "2": 200_000}


def test_operations_are_booked_to_module_and_pass() -> None:
    """Matrix products of a network through double backward: each with its floating-point work and its layer."""
    network = nn.Sequential(nn.Linear(8, 16, bias=False), nn.Tanh(), nn.Linear(16, 1, bias=False))

    def run() -> None:
        x = torch.ones(32, 8, requires_grad=True)
        (force,) = torch.autograd.grad(network(x).sum(), x, create_graph=True)
        force.square().sum().backward()

    accounts = booked(run, network, torch.device("cpu"))
    products = {key: one for key, one in accounts.items() if key[2] in ("mm", "addmm")}
    assert {key[0] for key in products} == {"0", "2"}
    assert products["0", "forward", "mm"].flops == 2 * 32 * 8 * 16
    assert products["0", "forward", "mm"].bytes == 4 * (32 * 8 + 8 * 16 + 32 * 16)
    assert products["0", "backward", "mm"].flops == 2 * 32 * 8 * 16
    assert products["0", "double backward", "mm"].calls >= 2
    by_phase = summed(accounts, lambda key: key[1])
    assert set(by_phase) == {"forward", "backward", "double backward"}
    assert all(one.ms > 0 for one in by_phase.values())


def test_errors_of_memory_are_known_by_type_or_words() -> None:
    """Torch's type, Python's, and the words of libraries without a type; no other error."""
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("Warp CUDA error 2: out of memory"))
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    assert not is_out_of_memory(KeyError("out of memory"))


def test_this_process_and_machine_have_memory() -> None:
    """Within what is possible."""
    assert 10 * MIB < highest_resident() < 2**40
    assert MIB < free_bytes(torch.device("cpu")) < 2**44
