"""Relaxing many structures at a time: each goes its own way, and all that are on their way are computed together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import reduce
from typing import Generic, NamedTuple, TypeVar

from mlanet.arrays import Size
from mlanet.batched_potential import BatchedPotential
from mlanet.errors import MLANetError
from mlanet.inference import NOTHING
from mlanet.workflows.relax import Descent, Step

T = TypeVar("T")


class Course(NamedTuple):
    """A relaxation on its way.

    - descent: whose atoms have, or will get, the calculator of `BatchedPotential`
    - sees: is shown every step, and says whether to end there
    """

    descent: Descent
    sees: Callable[[Step], bool] = lambda _: False


Arrived = Step | MLANetError
"""The last step of a relaxation, or the error in which it ended."""


def relax_all(
    batched_potential: BatchedPotential, things: Iterable[T], course_of: Callable[[T], Course]
) -> Iterator[tuple[T, Arrived]]:
    """Relax structures as they come, and hand each on, in order, with the step at which it arrived.

    Every structure takes the steps that it would take alone, with the same optimizer. As many are on their way as make
    one batch; one that arrives, or fails, makes room for the next. The results of those that overtake
    others wait for them.

    Args:
        batched_potential: what computes.
        things: whatever `course_of` makes a relaxation of; taken when there is room.
        course_of: may raise an `MLANetError`, which is the thing's.
    Raises:
        MLANetError: of `things`, after what came before has arrived.
    """
    source, pool, waiting = _Source(things), _Pool(batched_potential), deque[_Place[T]]()
    while True:
        while pool.has_room and (place := source.next()) is not None:
            waiting.append(place)
            try:
                pool.add(place, course_of(place.thing))
            except MLANetError as error:
                place.arrived = error
        while waiting and (arrived := waiting[0].arrived) is not None:
            yield waiting.popleft().thing, arrived
        if pool.running:
            pool.step()
        elif source.ended:
            source.close()
            return


class _Place(Generic[T]):
    """A thing in its turn."""

    def __init__(self, thing: T) -> None:
        self.thing = thing
        self.arrived: Step | MLANetError | None = None


class _Source(Generic[T]):
    """Things in their turns; an error between them waits until all before it have arrived."""

    def __init__(self, things: Iterable[T]) -> None:
        self._things = iter(things)
        self._error: MLANetError | None = None
        self.ended = False

    def next(self) -> _Place[T] | None:
        """The next one; None at the end."""
        if self.ended:
            return None
        try:
            return _Place(next(self._things))
        except StopIteration:
            self.ended = True
        except MLANetError as error:
            self.ended, self._error = True, error
        return None

    def close(self) -> None:
        """Raise what has ended it, if that was an error."""
        if self._error is not None:
            raise self._error


class _Pool:
    """The relaxations that are on their way, one batch of them."""

    def __init__(self, batched_potential: BatchedPotential) -> None:
        self.batched_potential = batched_potential
        self.running: list[tuple[_Place, Course]] = []  # type: ignore[type-arg]
        self._size, self._most = NOTHING, NOTHING

    @property
    def has_room(self) -> bool:
        """Whether another one, as large as the largest yet, goes into the batch."""
        both = self._size.with_(self._most)
        fits = self.batched_potential.fits
        load = max(both.edges, both.atoms)
        return not self.running or (load <= self.batched_potential.max_edges and (fits is None or fits(both)))

    def add(self, place: _Place, course: Course) -> None:  # type: ignore[type-arg]
        """Take one in.

        Raises:
            MLANetError: of a structure that the model cannot answer.
        """
        descent = course.descent
        try:
            size = self.batched_potential.size(descent.atoms)
        except MLANetError as error:
            raise descent.named(error) from None
        self.running.append((place, course))
        self._size, self._most = self._size.with_(size), _larger(self._most, size)

    def step(self) -> None:
        """Compute all, show each its step, and move those that go on."""
        structures = [course.descent.atoms for _, course in self.running]
        errors = self.batched_potential(structures)
        for (place, course), error in zip(self.running, errors, strict=True):
            place.arrived = _looked(course, error)
            if place.arrived is not None:
                course.descent.release()
        self.running = [descent for descent in self.running if descent[0].arrived is None]
        sizes = (course.descent.atoms.calc.neighbors.size for _, course in self.running)
        self._size = reduce(Size.with_, sizes, NOTHING)


def _looked(course: Course, error: MLANetError | None) -> Arrived | None:
    """Where a relaxation has arrived with the answer that it got; None: it has moved on."""
    descent = course.descent
    if error is not None:
        return descent.named(error)
    try:
        step = descent.look()
        if course.sees(step) or descent.ended:
            return step
        descent.move()
    except MLANetError as failed:
        return failed
    return None


def _larger(one: Size, other: Size) -> Size:
    return Size(*map(max, one, other))
