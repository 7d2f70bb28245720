"""The rule of recommendation, on tables that were made up for it."""

from __future__ import annotations

from typing import Any

import pytest

from mlanet.plots import pareto_front
from mlanet.sweep.plots import costs, degrees, learning_curves
from mlanet.sweep.recommend import recommend
from mlanet.sweep.table import Row, decay, grouped


def rows(table: dict[tuple[str, int], dict[int, Any]], **columns: Any) -> list[Row]:
    """Errors by model and size, one per seed; `columns` by model: time per epoch and memory."""
    found = []
    for (preset, l_max), curve in table.items():
        for size, errors in curve.items():
            for seed, error in enumerate(errors if isinstance(errors, list) else [errors]):
                costs = columns.get(f"{preset}{l_max}", (1.0, 100.0))
                found.append(
                    Row(
                        preset=preset,
                        l_max=l_max,
                        size=size,
                        seed=seed,
                        status="done" if error is not None else "failed",
                        forces_mae_meV_per_A=error,
                        seconds_per_epoch=costs[0],
                        peak_memory_MiB=costs[1],
                        microseconds_per_atom=10.0 * costs[0],
                        remark="" if error is not None else "diverged",
                    )
                )
    return found


def test_the_lowest_error_wins_if_no_other_is_near() -> None:
    """A model that is clearly better is worth its cost."""
    found = recommend(rows({("m", 1): {100: [30.0, 31.0]}, ("m", 2): {100: [20.0, 21.0]}}, m2=(9.0, 900.0)))
    assert (found.preset, found.l_max, found.size) == ("m", 2, 100)
    assert "lowest force MAE, 20.5 meV/Å" in found.sentences[0] and "no other is as good" in found.sentences[0]


def test_within_three_percent_the_cheapest_wins() -> None:
    """The reason names the best model, the distance, and what is saved."""
    table = {("m", 1): {100: [24.6, 24.8]}, ("m", 2): {100: [24.0, 24.2]}}
    found = recommend(rows(table, m1=(0.6, 50.0), m2=(1.0, 100.0)))
    assert found.l_max == 1
    assert "within 2.5 % of the lowest force MAE (m, l = 2, 24.1 meV/Å" in found.sentences[0]
    assert "0.6 of its time per epoch, 0.5 of its memory and 0.6 of its time per atom" in found.sentences[0]


def test_within_the_spread_over_seeds_the_cheapest_wins() -> None:
    """Means that differ by 10 % differ by nothing if seeds differ by 20 %."""
    table = {("m", 1): {100: [20.0, 24.0]}, ("m", 2): {100: [18.0, 22.0]}}
    found = recommend(rows(table, m1=(0.5, 50.0)))
    assert found.l_max == 1 and "less than the spread over seeds" in found.sentences[0]


def test_one_seed_knows_no_spread_and_says_so() -> None:
    """Without a second seed only the tolerance counts, and the reader is warned."""
    found = recommend(rows({("m", 1): {100: 22.0}, ("m", 2): {100: 20.0}}, m1=(0.1, 1.0)))
    assert found.l_max == 2
    assert any("Only one seed" in sentence for sentence in found.sentences)
    two = recommend(rows({("m", 1): {100: [22.0, 22.1]}, ("m", 2): {100: [20.0, 20.1]}}))
    assert not any("one seed" in sentence for sentence in two.sentences)


def test_a_tie_goes_to_the_first() -> None:
    """Equal errors and costs: the order of the sweep decides, not chance."""
    assert recommend(rows({("m", 1): {100: 20.0}, ("m", 2): {100: 20.0}})).l_max == 1
    assert recommend(rows({("m", 2): {100: 20.0}, ("m", 1): {100: 20.0}})).l_max == 2


def test_more_data_or_a_higher_l() -> None:
    """The exponent of the learning curve against what one l more gave."""
    table = {("m", 1): {50: 40.0, 100: 20.0}, ("m", 2): {50: 39.9, 100: 19.8}}
    text = recommend(rows(table, m1=(0.5, 50.0))).sentences[2]
    assert "lower its error by some 50 %" in text and "n^−1.00" in text
    assert "l = 2 lowers it by 1 %: more data help more" in text
    table = {("m", 1): {50: [20.0, 27.0], 100: [19.0, 26.0]}, ("m", 2): {50: [20.0, 20.1], 100: [18.0, 18.1]}}
    text = recommend(rows(table, m1=(0.5, 50.0))).sentences[1]
    assert "a higher l helps more" in text


def test_a_flat_curve_asks_for_no_data() -> None:
    """Where twice the data give nothing, the budget is what lacks."""
    found = recommend(rows({("m", 1): {50: 20.0, 100: 20.1}}))
    assert "only model" in found.sentences[0]
    assert any("More data hardly help" in sentence and "n^+0.01" in sentence for sentence in found.sentences)


def test_a_curve_that_rises_is_an_unfinished_training() -> None:
    """More structures and a larger error: the steps did not suffice, and more data are no advice."""
    text = " ".join(recommend(rows({("m", 1): {10: 20.0, 18: 28.0}})).sentences)
    assert "unfinished" in text and "n^+0.57" in text and "hardly" not in text


def test_a_curve_that_flattens_is_judged_by_its_end() -> None:
    """A steep beginning promises nothing: what counts is the slope between the last two sizes, and both are told."""
    text = recommend(rows({("m", 1): {25: 40.0, 50: 20.0, 100: 19.8}})).sentences[2]
    assert "More data hardly help" in text and "n^−0.01 from 50 to 100" in text and "n^−0.51 from 25 on" in text
    text = recommend(rows({("m", 1): {25: 40.0, 50: 20.0, 100: 14.0}})).sentences[2]
    assert "lower its error by some 30 %" in text and "n^−0.51 from 50 to 100" in text


def test_the_order_may_depend_on_the_size() -> None:
    """A small set may want a small l."""
    found = recommend(rows({("m", 1): {50: 30.0, 100: 28.0}, ("m", 3): {50: 40.0, 100: 20.0}}))
    assert found.l_max == 3 and "lowest was m, l = 1 with 50 structures" in found.sentences[-1]


def test_failures_are_told_and_leave_the_rest() -> None:
    """A model without the largest size is compared where all have results; nothing at all is nothing to recommend."""
    found = recommend(rows({("m", 1): {50: 30.0, 100: 20.0}, ("m", 2): {50: 25.0, 100: None}}))
    assert (found.l_max, found.size) == (2, 50) and "1 of 4 points failed" in found.sentences[-1]
    nothing = recommend(rows({("m", 1): {50: None}}))
    assert nothing.preset is None and "nothing can be recommended" in nothing.sentences[0]


def test_exponent_of_a_power_law() -> None:
    """ε = 100 n^−0.5 is found again."""
    fitted = decay(grouped(rows({("m", 1): {n: 100 * n**-0.5 for n in (16, 64, 256)}})), "forces_mae_meV_per_A")
    assert fitted is not None
    assert fitted.exponent == pytest.approx(0.5, abs=1e-12) and fitted.at(100) == pytest.approx(10.0, rel=1e-12)
    assert decay(grouped(rows({("m", 1): {16: 1.0}})), "forces_mae_meV_per_A") is None


def test_spread_is_of_a_sample() -> None:
    """n − 1 in the denominator, and nothing for one seed."""
    group = grouped(rows({("m", 1): {16: [1.0, 3.0]}}))[0]
    assert group.mean("forces_mae_meV_per_A") == 2.0
    assert group.spread("forces_mae_meV_per_A") == pytest.approx(2**0.5)
    assert group.spread("stress_mae_GPa") is None and group.mean("stress_mae_GPa") is None


def test_pictures_show_what_they_say() -> None:
    """One line per model on logarithmic axes, every cost measured, one line per size; none where there is nothing."""
    table = {("m", 1): {50: [30.0, 33.0], 100: [20.0, 22.0]}, ("m", 2): {50: 25.0, 100: 15.0}, ("q", 1): {100: 9.0}}
    groups = grouped(rows(table, m1=(0.5, 50.0)))
    column = "forces_mae_meV_per_A"
    curves = learning_curves(groups, column)
    assert curves is not None
    axes = curves.axes[0]
    assert axes.get_xscale() == axes.get_yscale() == "log"
    labels = [text.get_text() for text in curves.legends[0].get_texts()]
    assert labels == ["m, l = 1: n^−0.58", "m, l = 2: n^−0.74", "q, l = 1"]
    front = costs(groups, column)
    assert front is not None and len(front.axes) == 3
    by_degree = degrees(groups, column)
    assert by_degree is not None and len(by_degree.axes) == 1
    assert degrees(groups[-1:], column) is None and learning_curves(groups[-1:], column) is None
    assert pareto_front([(2.0, 1.0), (1.0, 2.0), (3.0, 1.5), (2.0, 3.0)]) == [(1.0, 2.0), (2.0, 1.0)]
