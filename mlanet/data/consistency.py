"""Do energies, forces and stresses belong together? Every way to read them is weighed against the labels as they are.

Finite work between neighbouring frames (`mlanet.data.finite_work`) relates energies to forces and stress, the best pair
potential relates the shear stress to the forces, and the stiffness of bonds (`mlanet.data.stiffness`) gives forces an
absolute scale. Each reading of units, signs and orders has a likelihood; labels are accused only where another reading,
or none, is likelier beyond doubt, and the accusation says by how much.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from mlanet.data.finite_work import Array, Pairs
from mlanet.data.likelihood import TRAPEZOID, best_constant, floor_of, log_likelihood, share
from mlanet.data.pairwise import PairFit
from mlanet.data.readings import ORDERS, READINGS, STRESS_READINGS, UNLIKELY, Reading, StressReading, reordered

MIN_FRAMES = 8
"""Frames with neighbours that it takes to accuse."""
SURE = 14.0
"""Nats (22,000 to one) by which a reading must be better than the labels as they are."""
CLOSE_CALL = 4.0
"""Nats within which two readings fit equally well."""
UNRELATED = 0.6
"""Correlation of work and energy difference below which they may have nothing to do with each other."""
FOLLOWS = 0.6
"""Correlation of forces with the best pair potential above which they do belong to the structures."""
LOG_STIFFNESS, SPREAD = -0.1, 0.55
"""Mean and standard deviation of log(curvature of the labels / curvature of universal bonds) over real sets."""
ASE_AS_IT_IS = (STRESS_READINGS[0].order, 1)
MISFIT = 0.4
"""Median of |ΔE − work| over the curvature work below which forces do explain energies; at most 0.16 in real sets."""
UNCORRELATED = 0.2
"""Correlation of work and energy differences; at least 0.4 in real sets."""
MANY_STRAINED = 200
MIN_SHEAR = 10
"""Frames with stress that it takes to judge its order and sign by the best pair potential."""


class Verdict(NamedTuple):
    """Suspicions in words, how many pairs they rest on, and what the labels are taken to mean."""

    suspicions: list[str]
    pairs: int
    strained_pairs: int
    reading: Reading = READINGS[0]
    related: bool = True
    """False where the forces have nothing to do with the energies."""


class _Choice(NamedTuple):
    """One reading of everything and its score, nats."""

    reading: Reading
    stress: StressReading
    score: float

    @property
    def departures(self) -> int:
        """In how many ways the labels differ from ours."""
        return self.reading.departures + self.stress.departures

    def faults(self) -> list[str]:
        """What is wrong with the labels if this is right."""
        return [*self.reading.faults(), *self.stress.faults()]


def judge(pairs: Pairs, per_atom: tuple[float, int] = (0.0, 0), fit: PairFit | None = None) -> Verdict:
    """Unit, sign and order suspicions for energies, forces and stress of a set; none where the data cannot tell.

    Args:
        pairs: neighbouring frames of the set.
        per_atom: nats by which compositions and sizes speak for energies per atom, and frames they come from.
        fit: the best pair potential of the forces, whose shear stress speaks of sign and order of the stress.
    """
    rigid = _enough(pairs.chosen(~pairs.strained))
    strained = _enough(pairs.chosen(pairs.strained & np.isfinite(pairs.virial).all(axis=(1, 2))))
    strained = strained.chosen(np.arange(len(strained.energy)) % max(1, len(strained.energy) // MANY_STRAINED) == 0)
    n_shear = 0 if fit is None or fit.n_shear < MIN_SHEAR else fit.n_shear
    counts = len(rigid.energy), len(strained.energy)
    evidence = [f"{sum(counts)} pairs of neighbouring frames"] if sum(counts) else []
    evidence += [f"the sizes of {per_atom[1]} frames"] if abs(per_atom[0]) > SURE else []
    evidence += [f"the shear stress of {n_shear} frames"] if n_shear else []
    if not evidence:
        return Verdict([], *counts)
    source = f"from {' and '.join(evidence)}"
    choices = [
        choice._replace(score=choice.score + float(np.clip(per_atom[0], -40, 40)) * choice.reading.per_atom)
        for choice in _scored(rigid, strained, fit if n_shear else None)
    ]
    best = max(choices, key=lambda choice: choice.score)
    nothing = _nothing(rigid, strained, fit if n_shear else None)
    if sum(counts) and best.score < nothing + SURE:
        if nothing > choices[0].score + SURE and _contradicts(rigid if counts[0] else strained):
            lead = odds(nothing - choices[0].score)
            return Verdict([f"{_unrelated(fit)} ({lead} likelier unrelated, {source})"], *counts, related=False)
        choices = [choice for choice in choices if choice.reading is READINGS[0]]
        best = max(choices, key=lambda choice: choice.score)
    suspicions = _accused(choices, source)
    if len(strained.energy) and (text := _stress_unrelated(strained, best)) is not None:
        suspicions.append(f"{text}, {source}")
    return Verdict(suspicions, *counts, best.reading)


def _enough(pairs: Pairs) -> Pairs:
    """The pairs, or none of them where there are too few frames to accuse."""
    return pairs if pairs.frames >= MIN_FRAMES else pairs.chosen(np.zeros(len(pairs.energy), dtype=bool))


def _accused(choices: list[_Choice], source: str) -> list[str]:
    """The best reading in words, if it beats the labels as they are beyond doubt, and those that fit as well."""
    base, top = choices[0], max(choice.score for choice in choices)
    if top < base.score + SURE:
        return []
    sure = [choice for choice in choices if choice.score > top - SURE and choice.score > base.score + SURE]
    fewest = min(choice.departures for choice in sure)
    best = max((choice for choice in sure if choice.departures == fewest), key=lambda choice: choice.score)
    equal = sorted(
        (c for c in sure if c.departures == fewest and c.score > best.score - CLOSE_CALL), key=lambda c: -c.score
    )
    said: list[str] = []
    for choice in equal:
        words = " and ".join(choice.faults())
        if words not in said:
            said.append(words)
    others = f"; the numbers fit as well if {'; or if '.join(said[1:3])}" if said[1:] else ""
    return [f"{said[0]} ({odds(best.score - base.score)} likelier than the labels as they are, {source}{others})"]


def odds(nats: float) -> str:
    """A difference of log-likelihoods as people say it."""
    digits = nats / math.log(10)
    return "more than 10^12 times" if digits > 12 else f"10^{digits:.0f} times"


def _scored(rigid: Pairs, strained: Pairs, fit: PairFit | None) -> list[_Choice]:
    """Every reading of energies, forces and stress with its score; the labels as they are come first."""
    scores = np.array([_rigid_score(rigid, strained, reading) for reading in READINGS])
    if len(rigid.energy):
        near = [k for k, score in enumerate(scores) if k == 0 or score > scores.max() - 3 * SURE]
    else:
        near = [k for k, reading in enumerate(READINGS) if reading.cost <= 2.3 * UNLIKELY]
    if not len(strained.energy) and fit is None:
        return [_Choice(READINGS[k], STRESS_READINGS[0], float(scores[k])) for k in near]
    works = [strained.stress_work(reordered(strained.virial, stress.order)) for stress in STRESS_READINGS]
    bends = [np.abs(strained.stress_work(reordered(strained.change, stress.order))) for stress in STRESS_READINGS]
    shears = _shears(fit)
    floor, part = floor_of(strained), share(strained)
    choices = []
    for k in near:
        reading = READINGS[k]
        divided = strained.n_atoms if reading.per_atom else 1
        left = strained.energy - reading.factor * strained.force / divided
        bend = abs(reading.factor) * np.abs(strained.bend) / divided
        for stress, work, bent in zip(STRESS_READINGS, works, bends, strict=True):
            if reading.departures + stress.departures > 4:
                continue
            factor = stress.sign * stress.unit.size / (reading.energy_sign * reading.energy.size) / divided
            width = TRAPEZOID * (bend + np.abs(factor) * bent) + floor
            score = scores[k] + part * log_likelihood(left - factor * work, width) - stress.cost
            score += shears[stress.order, stress.sign * reading.force_sign]
            choices.append(_Choice(reading, stress, float(score)))
    return choices


def _rigid_score(pairs: Pairs, strained: Pairs, reading: Reading) -> float:
    """Log-likelihood of energies in one cell and of the size of the forces, less the cost of the reading."""
    scale = scale_score(stiffness(pairs if len(pairs.energy) else strained), reading)
    return _likelihood(pairs, reading) + scale - reading.cost


def _likelihood(pairs: Pairs, reading: Reading) -> float:
    """Log-likelihood of the energies, given the forces of one reading."""
    factor = reading.factor / (pairs.n_atoms if reading.per_atom else np.ones(len(pairs.energy)))
    width = TRAPEZOID * np.abs(factor * pairs.bend) + floor_of(pairs)
    return share(pairs) * log_likelihood(pairs.energy - factor * pairs.force, width)


def _contradicts(pairs: Pairs) -> bool:
    """Whether enough frames have energies that go their own way: far off beside the curvature, or not correlated."""
    if pairs.frames < 2 * MIN_FRAMES:
        return False
    work = pairs.force + pairs.stress_work(np.nan_to_num(pairs.virial))
    bend = np.abs(pairs.bend) + np.abs(pairs.stress_work(np.nan_to_num(pairs.change))) + floor_of(pairs)
    far_off = float(np.median(np.abs(pairs.energy - work) / bend)) > MISFIT
    return far_off or abs(_correlation(work, pairs.energy)) < UNCORRELATED


def stiffness(pairs: Pairs) -> float:
    """Curvature of the labels over that of universal bonds; NaN where bonds are hardly stretched."""
    telling = pairs.spring > np.maximum(1e-4 * pairs.n_atoms, 0.0)
    if telling.sum() < MIN_FRAMES // 2:
        return math.nan
    return float(np.median(pairs.bend[telling] / pairs.spring[telling]))


def scale_score(ratio: float, reading: Reading) -> float:
    """Log-probability of the stiffness that the forces have in this reading; 0 where it is not known."""
    if not math.isfinite(ratio) or ratio == 0:
        return 0.0
    gain = reading.force_sign * reading.force.size * ratio
    if gain < 0:
        return -0.5 * (6.0**2)
    return -0.5 * min(((math.log(gain) - LOG_STIFFNESS) / SPREAD) ** 2, 6.0**2)


def _nothing(rigid: Pairs, strained: Pairs, fit: PairFit | None) -> float:
    """Score of the reading that energies have nothing to do with forces and stress."""
    alone = sum(share(pairs) * best_constant(pairs.energy) for pairs in (rigid, strained))
    shear = max(value - (UNLIKELY if key != ASE_AS_IT_IS else 0.0) for key, value in _shears(fit).items())
    scale = scale_score(stiffness(rigid if len(rigid.energy) else strained), READINGS[0])
    return alone + shear + scale - UNLIKELY


def _shears(fit: PairFit | None) -> dict[tuple[str, int], float]:
    """Log-likelihood of the shear stress for every order and sign, by the best pair potential."""
    return {
        (order, sign): 0.0 if fit is None else fit.support(reordered(fit.stress, order), sign)
        for order in ORDERS
        for sign in (1, -1)
    }


def _unrelated(fit: PairFit | None) -> str:
    """Forces and energies that have nothing to do with each other, and which of the two is to blame."""
    if fit is not None and fit.force_correlation > FOLLOWS:
        return (
            f"the energies do not belong to these frames: the forces do not explain them, though they follow from the "
            f"structures (correlation {fit.force_correlation:.2f} with the best pair potential)"
        )
    return "the forces do not explain the energies: shuffled, of another level of theory, or not their derivative"


def _stress_unrelated(pairs: Pairs, best: _Choice) -> str | None:
    """A stress without which the energies of strained frames are likelier."""
    if pairs.frames < 2 * MIN_FRAMES or best.stress.faults():
        return None
    reading = best.reading
    divided = pairs.n_atoms if reading.per_atom else 1
    left = pairs.energy - reading.factor * pairs.force / divided
    factor = 1 / (reading.energy_sign * reading.energy.size) / divided
    work = factor * pairs.stress_work(pairs.virial)
    bend = TRAPEZOID * np.abs(reading.factor * pairs.bend / divided) + floor_of(pairs)
    bent = TRAPEZOID * np.abs(factor * pairs.stress_work(pairs.change))
    correlation = _correlation(work, left)
    lead = share(pairs) * (
        max(log_likelihood(left, bend), best_constant(left)) - log_likelihood(left - work, bend + bent)
    )
    if lead < SURE or correlation > UNRELATED:
        return None
    return (
        f"the stress does not explain the energies of strained frames (correlation {correlation:.2f}, {odds(lead)} "
        "likelier without it)"
    )


def _correlation(x: Array, y: Array) -> float:
    """Correlation through the origin, each pair weighted down where it is large; 0 where one vanishes."""
    if not len(y):
        return 0.0
    weight = 1.0 / (np.abs(y) + np.abs(y).mean() + 1e-300)
    a, b = x * weight, y * weight
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 0 else 0.0
