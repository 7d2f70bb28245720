"""Processes and Ray: results come in the order of the work, and what goes wrong with one costs no other."""

from __future__ import annotations

import functools
import os
import time
import warnings

import pytest
from ase import Atoms

from mlanet.data.read import Frame
from mlanet.errors import ConfigError, DataError
from mlanet.workflows.workers import Crew, Part, WorkerLostError, gathered, in_order, parts_of, worked

CREWS = [Crew(), Crew(2)]


def slowly(number: int) -> tuple[int, int]:
    """The first takes longest; one kills its process, one raises."""
    time.sleep(0.02 * max(0, 4 - number))
    if number == 13:
        os._exit(9)
    if number == -1:
        raise DataError("minus one")
    return number**2, os.getpid()


@pytest.mark.parametrize("crew", CREWS)
def test_results_are_in_order_whoever_computes(crew: Crew) -> None:
    """What is known is not computed; an error of the source comes after what came before it."""

    def source():
        yield from range(6)
        raise DataError("the source ends")

    found = []
    with pytest.raises(DataError, match="the source ends"):
        for thing, (square, process) in in_order(crew, slowly, source(), lambda n: (9, 0) if n == 3 else None):
            found.append((thing, square, process == os.getpid()))
    assert [one[:2] for one in found] == [(n, n**2) for n in range(6)]
    assert {one[2] for one in found if one[0] != 3} == {crew.alone}


def test_a_process_that_is_killed_costs_its_own_part() -> None:
    found = dict(in_order(Crew(2), slowly, [1, 13, 2, 3, 5]))
    assert isinstance(found.pop(13), WorkerLostError) and [one[0] for one in found.values()] == [1, 4, 9, 25]
    with pytest.raises(DataError, match="minus one"):
        list(in_order(Crew(2), slowly, [-1]))


def frames(numbers: list[int]) -> list[Frame]:
    return [Frame(Atoms(f"H{n}"), f"file, frame {index}") for index, n in enumerate(numbers)]


def count(refused, chunk: list[Frame]):
    """Atoms of each; threes are at fault."""
    for frame in chunk:
        if len(frame.atoms) == 3:
            warnings.warn(f"{frame.where}: three", stacklevel=1)
            if refused is None:
                raise DataError(f"{frame.where}: three")
            refused(DataError(f"{frame.where}: three"))
        else:
            yield len(frame.atoms)


def counted(keep_going: bool, chunk: list[Frame]) -> Part[int]:
    return gathered(functools.partial(_swapped, chunk), keep_going)


def _swapped(chunk: list[Frame], refused):
    return count(refused, chunk)


@pytest.mark.parametrize("crew", [Crew(), Crew(2)])
def test_errors_come_where_they_would_come_alone(crew: Crew) -> None:
    """Passed over and listed in order, or raised after everything before; warned once."""
    numbers = [1, 2, 3, 4, 3, 5]
    refused: list[str] = []
    with pytest.warns(UserWarning, match="three") as heard:
        part = functools.partial(counted, True)
        assert list(worked(crew, part, frames(numbers), lambda one: refused.append(str(one)), 2)) == [1, 2, 4, 5]
        assert refused == ["file, frame 2: three", "file, frame 4: three"] and len(heard) == 1
        found = []
        with pytest.raises(DataError, match="frame 2"):
            for one in worked(crew, functools.partial(counted, False), frames(numbers), None, 2):
                found.append(one)
    assert found == [1, 2]


def test_parts_are_neither_too_large_nor_reordered() -> None:
    parts = list(parts_of(frames([1500, 600, 1, 1, 1, 3000]), most=2))
    assert [[len(one.atoms) for one in part] for part in parts] == [[1500, 600], [1, 1], [1, 3000]]


def test_ray_that_is_not_there_is_said(monkeypatch) -> None:
    import builtins

    usual = builtins.__import__

    def without(name: str, *more, **words):
        if name == "ray":
            raise ImportError(name)
        return usual(name, *more, **words)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"mlanet\[ray\]"):
        list(in_order(Crew(1, "local"), slowly, [1]))
