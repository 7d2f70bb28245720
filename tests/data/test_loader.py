"""Batches keep to the edge budget, use every structure exactly once, and can be resumed and shared out."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from hypothesis import given
from hypothesis import strategies as st

from mlanet.data.dataset import sample_of
from mlanet.data.loader import Loader, ahead
from mlanet.data.read import Frame
from mlanet.data.samples import Sample
from mlanet.errors import DataError

SHAPES = [
    Atoms("H"),
    molecule("H2O"),
    molecule("CH3CH2OH"),
    bulk("Cu"),
    bulk("Cu", cubic=True) * (2, 2, 2),
    Atoms("He", positions=[[9, 9, 9]]),
    bulk("Si", cubic=True),
]
SAMPLES = [
    sample_of(Frame(SHAPES[k % len(SHAPES)], f"frame {k}"), 4.0)._replace(group=str(k)) for k in range(4 * len(SHAPES))
]


def cost(index: int) -> int:
    return max(SAMPLES[index].graph.n_edges, SAMPLES[index].graph.n_atoms)


@given(st.integers(1, 3000), st.integers(0, 5), st.integers(0, 3), st.booleans(), st.sampled_from([None, 1, 5]))
def test_plan_is_a_partition_under_budget(max_edges, seed, epoch, shuffle, max_structures) -> None:
    """Every sample once; a batch exceeds the budget only if it is one structure; same seed and epoch, same plan."""
    loader = Loader(SAMPLES, max_edges=max_edges, seed=seed, shuffle=shuffle, max_structures=max_structures)
    plan = loader.plan(epoch)
    assert sorted(index for batch in plan for index in batch) == list(range(len(SAMPLES)))
    assert all(sum(map(cost, batch)) <= max_edges or len(batch) == 1 for batch in plan)
    assert max_structures is None or max(map(len, plan)) <= max_structures
    again = Loader(SAMPLES, max_edges=max_edges, seed=seed, shuffle=shuffle, max_structures=max_structures)
    assert again.plan(epoch) == plan
    if not shuffle:
        assert [index for batch in plan for index in batch] == list(range(len(SAMPLES)))


@given(st.integers(1, 20), st.floats(0.05, 0.95), st.integers(0, 3))
def test_old_samples_are_a_share_of_each_epoch(new: int, share: float, epoch: int) -> None:
    """Every new sample once; of the old ones as many as the share says, or all there are, none twice."""
    samples, old = SAMPLES[:new], SAMPLES[new:]
    plan = Loader(samples, max_edges=500, replay=old, replay_share=share).plan(epoch)
    order = [index for batch in plan for index in batch]
    assert sorted(index for index in order if index < new) == list(range(new))
    drawn = [index for index in order if index >= new]
    assert len(drawn) == len(set(drawn)) == min(len(old), max(1, round(new * share / (1 - share))))


def test_old_samples_are_drawn_anew() -> None:
    """Epochs draw others, so that all come in time, and new and old stand among each other."""
    loader = Loader(SAMPLES[:4], max_edges=1, replay=SAMPLES[4:])
    orders = [[index for batch in loader.plan(epoch) for index in batch] for epoch in range(40)]
    assert {index for order in orders for index in order} == set(range(len(SAMPLES)))
    assert any(order[0] >= 4 for order in orders) and any(order[0] < 4 for order in orders)
    alone = Loader(SAMPLES[:4], max_edges=1)
    assert Loader(SAMPLES[:4], max_edges=1, replay=[]).plan(3) == alone.plan(3)


def test_seed_and_epoch_matter() -> None:
    """Epochs and seeds have their own orders."""
    plans = [Loader(SAMPLES, max_edges=500, seed=s).plan(e) for s in (0, 1) for e in (0, 1)]
    assert all(a != b for k, a in enumerate(plans) for b in plans[:k])


@given(st.integers(50, 2000), st.integers(1, 5))
def test_ranks_share_an_epoch(max_edges: int, world: int) -> None:
    """Ranks are disjoint, together they are the epoch, and their step counts differ by the last step at most."""
    loader = Loader(SAMPLES, max_edges=max_edges)
    steps = loader.len_epoch(1, world)
    mine = [list(loader.batches(1, rank=rank, world=world)) for rank in range(world)]
    assert all(steps - 1 <= len(batches) <= steps for batches in mine) and len(mine[0]) == steps
    together = sum(graph.n_structures for batches in mine for graph, _ in batches)
    assert together == len(SAMPLES)
    interleaved = [mine[k % world][k // world][0].n_atoms for k in range(len(loader.plan(1)))]
    assert interleaved == [sum(SAMPLES[i].graph.n_atoms for i in batch) for batch in loader.plan(1)]


@given(st.integers(0, 12), st.integers(1, 3))
def test_resume_at_any_batch(start: int, world: int) -> None:
    """Starting at step k gives what a run from the beginning gives after k steps, bit for bit."""
    loader = Loader(SAMPLES, max_edges=700, seed=3)
    for rank in range(world):
        whole = list(loader.batches(2, rank=rank, world=world))[start:]
        resumed = list(loader.batches(2, start=start, rank=rank, world=world))
        assert len(whole) == len(resumed)
        for (a, _), (b, _) in zip(whole, resumed, strict=True):
            assert torch.equal(a.positions, b.positions) and torch.equal(a.center, b.center)


def test_batches_hold_their_samples() -> None:
    """A batch is its samples joined in the plan's order: the same edge vectors, labels of the same atoms."""
    loader = Loader(SAMPLES, max_edges=1500, seed=1)
    for indices, (graph, labels) in zip(loader.plan(0), loader.batches(0), strict=True):
        assert labels.forces.shape == graph.positions.shape and labels.energy.shape == (graph.n_structures,)
        expected = torch.cat([SAMPLES[k].graph.edge_vectors() for k in indices])
        torch.testing.assert_close(graph.edge_vectors(), expected, rtol=0, atol=0)
        assert (graph.structure[graph.center] == graph.structure[graph.neighbor]).all()


def test_impossible() -> None:
    """No samples, no room, no such rank."""
    empty: list[Sample] = []
    with pytest.raises(DataError, match="nothing to load"):
        Loader(empty, max_edges=10)
    with pytest.raises(DataError, match="room"):
        Loader(SAMPLES, max_edges=0)
    with pytest.raises(ValueError, match="rank 2 of 2"):
        next(Loader(SAMPLES, max_edges=10).batches(0, rank=2, world=2))


def test_one_batch_is_made_ahead() -> None:
    """While an item is worked on one more is made, by another thread; an error comes in its place."""
    made: list[tuple[int, str]] = []
    done = threading.Event()

    def items() -> Iterator[int]:
        for k in range(3):
            made.append((k, threading.current_thread().name))
            done.set()
            yield k
        raise DataError("the fourth is damaged")

    source = ahead(items())
    for k in range(3):
        assert next(source) == k
        if k < 2:
            assert done.wait(5) and [number for number, _ in made][-1] <= k + 1
            done.clear()
    with pytest.raises(DataError, match="the fourth"):
        next(source)
    assert [number for number, _ in made] == [0, 1, 2] and {name for _, name in made} == {"loader_0"}
    left_early = ahead(iter(range(1000)))
    assert next(left_early) == 0
    left_early.close()
