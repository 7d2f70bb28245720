"""The labelling of a round: structures are drawn, sent to the teacher, judged and kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import atomic_numbers

from mlanet.data.read import read_frames
from mlanet.distill.config import DistillConfig, LabelConfig
from mlanet.distill.seeds import Seed, distinct, read_seeds, reduced_formula
from mlanet.distill.store import LabelStore
from mlanet.distill.structures import atomic_volumes, draw
from mlanet.distill.teacher import Teacher

SYNC_EVERY = 60.0
"""s between two forced writes."""


class Drawn(NamedTuple):
    """What is known of a structure before it is labelled."""

    number: int
    recipe: str
    source: str


class Source:
    """Structures by number: k depends on the configuration, the round and k alone."""

    def __init__(self, config: DistillConfig, elements: tuple[int, ...] | None, turn: int = 0) -> None:
        self.config, self.turn = config, turn
        self.held_out = frozenset(reduced_formula(atoms) for path in config.test for atoms, _ in read_frames(path))
        self.groups = {name: self._seeds(name) for name in config.seeds}
        every = [seed for seeds in self.groups.values() for seed in seeds]
        present = {int(z) for seed in every for z in seed.atoms.numbers}
        wanted = {atomic_numbers[symbol] for symbol in config.elements} or set(elements or present)
        self.elements = sorted(wanted)
        self.volumes = atomic_volumes(every)
        self.names = list(config.recipes)
        shares = np.array([config.recipes[name].share for name in self.names])
        self.shares = shares / shares.sum()

    def _seeds(self, name: str) -> list[Seed]:
        group = self.config.seeds[name]
        found = (seed for path in group.files for seed in read_seeds(path, max_atoms=group.max_atoms))
        return distinct(found, without=self.held_out)

    def draw(self, number: int) -> tuple[Drawn, Atoms | None]:
        """Structure `number`, or None in its place if it came out impossible or is held out."""
        rng = np.random.default_rng([self.config.seed, self.turn, number])
        name = self.names[rng.choice(len(self.names), p=self.shares)]
        recipe = self.config.recipes[name]
        group = self.groups[str(rng.choice(recipe.seeds or list(self.groups)))]
        seed = group[rng.integers(len(group))]
        atoms = draw(recipe, seed, self.elements, self.volumes, rng)
        if atoms is not None and reduced_formula(atoms) in self.held_out:
            atoms = None
        return Drawn(number, name, "dimer" if recipe.dimer else seed.where), atoms


def label(
    config: DistillConfig, source: Source, teacher: Teacher, folder: Path, count: int, say: Callable[[str], None]
) -> int:
    """Label until `count` are in the folder, going on where an earlier run stopped; returns how many there are."""
    store = LabelStore(folder)
    have, began, synced, new = len(store), time.monotonic(), time.monotonic(), 0
    try:
        answers = teacher.label(_unlabelled(source, store))
        if have >= count:
            return have
        for drawn, atoms, answer in answers:
            reason = rejected(answer, config.labels)
            if reason:
                store.leave_out(drawn.number, reason, recipe=drawn.recipe, source=drawn.source)
                continue
            store.add(labelled(atoms, answer, drawn, teacher.name, source.turn))
            have, new = have + 1, new + 1
            if time.monotonic() - synced > SYNC_EVERY:
                store.sync()
                synced = time.monotonic()
                say(f"{have} of {count} labels, {3600 * new / (synced - began):.0f} an hour")
            if have >= count:
                break
    finally:
        store.close()
    return have


def _unlabelled(source: Source, store: LabelStore) -> Iterator[tuple[Drawn, Atoms]]:
    """Structures by number, without end, leaving out those that are done."""
    done = store.numbers()
    number = 0
    while True:
        if number not in done:
            drawn, atoms = source.draw(number)
            if atoms is not None:
                yield drawn, atoms
        number += 1


def rejected(answer: dict[str, Any], limits: LabelConfig) -> str | None:
    """Why a label is not kept, or None."""
    if "error" in answer:
        return str(answer["error"])
    stress = answer["stress"] or [0.0]
    values = np.concatenate([[answer["energy"]], np.ravel(answer["forces"]), stress])
    if not np.isfinite(values).all():
        return "not finite"
    force = np.linalg.norm(answer["forces"], axis=1).max()
    if force > limits.max_force:
        return f"force {force:.1f} eV/Å"
    if np.abs(stress).max() > limits.max_stress:
        return f"stress {np.abs(stress).max():.2f} eV/Å³"
    return None


def labelled(atoms: Atoms, answer: dict[str, Any], drawn: Drawn, teacher: str, turn: int) -> Atoms:
    """The structure with its labels and its provenance."""
    done = atoms.copy()
    done.info = {
        "number": drawn.number,
        "round": turn,
        "recipe": drawn.recipe,
        "source": drawn.source.replace(" ", "_"),
        "teacher": teacher,
    }
    results = {"energy": answer["energy"], "forces": np.array(answer["forces"])}
    if answer["stress"] is not None:
        results["stress"] = np.array(answer["stress"])
    done.calc = SinglePointCalculator(done, **results)
    return done
