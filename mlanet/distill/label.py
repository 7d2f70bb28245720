"""The labelling of a round: structures are drawn, sent to the teacher, judged and kept."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import atomic_numbers
from numpy.typing import NDArray

from mlanet.data.neighbors import neighbor_list
from mlanet.data.read import read_frames
from mlanet.distill.config import DistillConfig, LabelConfig, Recipe
from mlanet.distill.seeds import Seed, distinct, read_seeds, reduced_formula
from mlanet.distill.store import LabelStore
from mlanet.distill.structures import atomic_volumes, draw
from mlanet.distill.teacher import Teacher
from mlanet.errors import DataError

SYNC_EVERY = 60.0
"""s between two forced writes."""
MOST_FRUITLESS = 10_000
"""Draws in a row that give nothing before the recipes are taken to be exhausted."""


class Drawn(NamedTuple):
    """What is known of a structure before it is labelled; `print` is what equal geometries share."""

    number: int
    recipe: str
    source: str
    print: str = ""


class Weights(NamedTuple):
    """How much more often than by its share something is drawn: the student's error there over its mean error."""

    elements: Mapping[int, float] = MappingProxyType({})
    recipes: Mapping[str, float] = MappingProxyType({})

    def of(self, seed: Seed) -> float:
        """Mean over the seed's atoms; 1 where nothing is known."""
        return float(np.mean([self.elements.get(int(z), 1.0) for z in seed.atoms.numbers]))


class Source:
    """Structures by number: k depends on the configuration, the round, the student and k alone.

    Args:
        config: recipes and seeds.
        elements: that the teacher knows, or None.
        turn: the round, from 0.
        weights: of elements and recipes, from the student's errors.
        explore: moves a structure as a recipe's `relax` and `explore` ask; None without a student.
    """

    def __init__(
        self,
        config: DistillConfig,
        elements: tuple[int, ...] | None,
        turn: int = 0,
        weights: Weights = Weights(),  # noqa: B008 - immutable
        explore: Callable[[Atoms, Recipe, np.random.Generator], Atoms | None] | None = None,
    ) -> None:
        self.config, self.turn, self.explore = config, turn, explore
        self.held_out = frozenset(reduced_formula(atoms) for path in config.test for atoms, _ in read_frames(path))
        self.groups = {name: self._seeds(name) for name in config.seeds}
        every = [seed for seeds in self.groups.values() for seed in seeds]
        present = {int(z) for seed in every for z in seed.atoms.numbers}
        wanted = {atomic_numbers[symbol] for symbol in config.elements} or set(elements or present)
        self.elements = sorted(wanted)
        self.volumes = atomic_volumes(every)
        self.names = list(config.recipes)
        self.shares = _normalised([r.share * weights.recipes.get(n, 1.0) for n, r in config.recipes.items()])
        self.chances = {name: _normalised([weights.of(seed) for seed in seeds]) for name, seeds in self.groups.items()}

    def _seeds(self, name: str) -> list[Seed]:
        group = self.config.seeds[name]
        candidates = (seed for path in group.files for seed in read_seeds(path, max_atoms=group.max_atoms))
        seeds = distinct(candidates, without=self.held_out)
        if not seeds:
            raise DataError(f"seeds.{name}: no structure of at most {group.max_atoms} atoms that is not held out")
        return seeds

    def draw(self, number: int) -> tuple[Drawn, Atoms | None]:
        """Structure `number`, or None in its place if it came out impossible or is held out."""
        rng = np.random.default_rng([self.config.seed, self.turn, number])
        name = self.names[rng.choice(len(self.names), p=self.shares)]
        recipe = self.config.recipes[name]
        group = str(rng.choice(recipe.seeds or list(self.groups)))
        seed = self.groups[group][rng.choice(len(self.groups[group]), p=self.chances[group])]
        atoms = draw(recipe, seed, self.elements, self.volumes, rng)
        if atoms is not None and self.explore is not None and (recipe.relax or recipe.explore):
            atoms = self.explore(atoms, recipe, rng)
        if atoms is not None and reduced_formula(atoms) in self.held_out:
            atoms = None
        return Drawn(number, name, "dimer" if recipe.dimer else seed.where), atoms


def _normalised(weights: Sequence[float]) -> NDArray[np.float64]:
    """Chances that add up to 1."""
    return np.array(weights) / np.sum(weights)


class Labeller:
    """Labels of one round in a folder: drawn, labelled, vetoed, judged, kept.

    Args:
        config: which labels are kept.
        source: of the structures.
        teacher: whose labels they are.
        folder: of the round.
        veto: a second teacher, or None.
        say: for progress.
    """

    def __init__(
        self,
        config: LabelConfig,
        source: Source,
        teacher: Teacher,
        folder: Path,
        veto: Teacher | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self.config, self.source, self.teacher, self.veto, self.say = config, source, teacher, veto, say
        self.store = LabelStore(folder)
        self.prints = self.store.prints()

    def run(self, count: int) -> int:
        """Label until `count` are in the folder, going on where an earlier run stopped; returns how many there are."""
        have, new, began = len(self.store), 0, time.monotonic()
        synced = began
        try:
            if have >= count:
                return have
            for drawn, atoms, answer in self._answers():
                reason = rejected(answer, self.config)
                if reason:
                    about = {"recipe": drawn.recipe, "source": drawn.source, "print": drawn.print}
                    self.store.leave_out(drawn.number, reason, **about)
                    continue
                self.store.add(labelled(atoms, answer, drawn, self.teacher.name, self.source.turn))
                have, new = have + 1, new + 1
                if have >= count:
                    break
                if time.monotonic() - synced > SYNC_EVERY:
                    self.store.sync()
                    synced = time.monotonic()
                    self.say(f"{have} of {count} labels, {3600 * new / (synced - began):.0f} an hour")
        finally:
            self.store.close()
        return have

    def _answers(self) -> Iterator[tuple[Drawn, Atoms, dict[str, Any]]]:
        """Of the teacher; with a second one, an answer that it contradicts becomes an error."""
        first = self.teacher.label(self._unlabelled())
        if self.veto is None:
            yield from first
            return
        for (drawn, answer), atoms, other in self.veto.label(((d, answer), atoms) for d, atoms, answer in first):
            contradiction = None if "error" in answer else contradicts(answer, other, self.config)
            yield drawn, atoms, {"error": contradiction} if contradiction else answer

    def _unlabelled(self) -> Iterator[tuple[Drawn, Atoms]]:
        """Structures by number, without end, leaving out those that are done and those that came before."""
        done = self.store.numbers()
        number = fruitless = 0
        while fruitless < MOST_FRUITLESS:
            if number not in done:
                drawn, atoms = self.source.draw(number)
                fruitless += 1
                if atoms is not None and (print_of := _print(atoms)) not in self.prints:
                    self.prints.add(print_of)
                    fruitless = 0
                    yield drawn._replace(print=print_of), atoms
            number += 1
        raise DataError(
            f"{fruitless} structures in a row were impossible, held out or drawn before; change the recipes"
        )


def _print(atoms: Atoms) -> str:
    """What equal geometries share: sorted elements, volume and distances within 5 Å, to 0.001 Å."""
    cell = atoms.cell.array
    i, j, shift = neighbor_list(atoms.positions, cell, atoms.pbc, 5.0)
    distances = np.sort(np.linalg.norm(atoms.positions[j] + shift @ cell - atoms.positions[i], axis=1))
    parts = (np.sort(atoms.numbers), np.round(distances, 3), np.round(atoms.cell.volume, 2))
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()[:20]


def contradicts(answer: dict[str, Any], other: dict[str, Any], config: LabelConfig) -> str | None:
    """Why a second teacher does not agree, or None. Energies are not compared: levels of theory may differ."""
    if "error" in other:
        return f"the second teacher: {other['error']}"
    first, second = np.array(answer["forces"]), np.array(other["forces"])
    difference, size = np.sqrt(np.mean((first - second) ** 2)), np.sqrt(np.mean(first**2))
    if difference > config.veto_forces * (0.5 + size):
        return f"the teachers differ by {difference:.2f} eV/Å in forces of {size:.2f} eV/Å"
    return None


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
        "print": f"#{drawn.print}",  # text, even where all digits are decimal
    }
    results = {"energy": answer["energy"], "forces": np.array(answer["forces"])}
    if answer["stress"] is not None:
        results["stress"] = np.array(answer["stress"])
    done.calc = SinglePointCalculator(done, **results)
    if "atomic_energies" in answer:
        done.arrays["atomic_energies"] = np.array(answer["atomic_energies"])
    return done
