"""A change counts when it is outside what the seeds' spread explains; times never count, lost and broken numbers do."""

import math

import numpy as np
import pytest

from book.regress.verdicts import Kind, allowance, floor, judge, number, summary

SEEDS = [{"probe": 0.90}, {"probe": 0.92}, {"probe": 0.91}]
BARS = {"probe": {"min": 0.5, "chance": "0.1"}}


def verdict(*now: float, metric: str = "probe", accepted=SEEDS, bars=BARS):
    """The judgement on one metric, measured once a seed."""
    accepted = summary([{metric: run["probe"]} for run in accepted]) if accepted else {}
    bars = {metric: bars["probe"]} if bars else {}
    (judgement,) = judge("02_b", [{metric: value} for value in now], accepted, bars)
    return judgement


@pytest.mark.parametrize(
    ("now", "kind"),
    [
        ((0.91,), Kind.SAME),
        ((0.80,), Kind.SAME),  # one run beside three: 11.5 standard deviations of 0.01
        ((0.79,), Kind.WORSE),
        ((1.03,), Kind.BETTER),
        ((0.85, 0.87, 0.86), Kind.WORSE),  # three beside three see less than half of that
        ((0.88, 0.90, 0.89), Kind.SAME),
        ((0.4,), Kind.BELOW),
        ((math.nan,), Kind.UNDEFINED),
        ((math.inf,), Kind.UNDEFINED),
        ((0.91, math.nan), Kind.UNDEFINED),
    ],
)
def test_kind(now, kind):
    assert verdict(*now).kind is kind


def test_direction_comes_from_the_bar():
    fall = {"probe": {"max": 2, "chance": "7"}}
    assert verdict(0.5, bars=fall).kind is Kind.BETTER
    assert verdict(1.5, bars=fall).kind is Kind.WORSE
    assert verdict(0.5, bars=None).kind is Kind.CHANGED


def test_every_real_change_fails_and_says_how_large():
    better = verdict(1.03)
    assert better.kind.fails and not better.unfit
    assert better.words == "better by +0.12 (chance explains 0.11): accept it"
    assert "worse by -0.41" in verdict(0.5).words
    assert not verdict(0.91).kind.fails


@pytest.mark.parametrize("metric", ["painting_ms", "seconds_to_open", "pictures_per_second", "flat_over_hdf5"])
def test_times_count_only_against_their_bar(metric):
    assert verdict(900.0, metric=metric).kind is Kind.TIME and not verdict(900.0, metric=metric).kind.fails
    slow = verdict(0.1, metric=metric)
    assert slow.kind is Kind.BELOW and slow.kind.fails and "busy" in slow.words
    assert not slow.unfit and verdict(0.1).unfit  # a busy machine does not spoil an accepted run


@pytest.mark.parametrize("metric", ["different_seeds", "terms", "one_gpu_hours"])
def test_what_only_sounds_like_a_time_is_compared(metric):
    assert verdict(0.6, metric=metric).kind is Kind.WORSE


def test_lost_and_new_metrics():
    found = {j.metric: j for j in judge("02_b", [{"fresh": 1.0}], summary(SEEDS), {"barred": {"min": 1, "chance": ""}})}
    assert found["probe"].kind is Kind.GONE and found["probe"].kind.fails and found["probe"].now is None
    assert found["barred"].kind is Kind.GONE and found["barred"].unfit
    assert found["fresh"].kind is Kind.NEW and found["fresh"].kind.fails and not found["fresh"].unfit


def test_a_metric_that_one_seed_lost_is_no_number():
    (judgement,) = judge("02_b", [{"probe": 0.9}, {}], summary(SEEDS), {})
    assert judgement.kind is Kind.UNDEFINED and judgement.unfit


def test_about_one_in_a_hundred_unchanged_metrics_is_called_changed():
    rng = np.random.default_rng(0)
    for now, accepted in ((1, 3), (3, 3), (1, 5)):
        draws = rng.normal(100, 10, (4000, now + accepted)).tolist()  # a spread far above the floor
        gaps = [(np.mean(d[:now]) - np.mean(d[now:]), allowance(d[:now], d[now:])) for d in draws]
        assert 0.005 < np.mean([abs(gap) > allowed for gap, allowed in gaps]) < 0.016


def test_no_spread_still_leaves_room_for_rounding_and_a_few_pictures():
    assert allowance([1.0], [1.0, 1.0, 1.0]) == floor(1.0) == floor(0.0) == 0.02
    assert floor(0.03) == pytest.approx(0.0015) and floor(7e-7) == 1e-5
    counts = [{"probe": 2181032.0}] * 3
    assert verdict(2181033.0, accepted=counts).kind is Kind.BETTER


def test_one_run_beside_one_run_is_refused():
    with pytest.raises(ValueError, match="accept at least three seeds"):
        allowance([1.0], [1.0])


def test_numbers_are_short_but_counts_are_whole():
    assert [number(v) for v in (0.123456, 2181032.0, 1042.3, math.inf)] == ["0.1235", "2,181,032", "1042", "inf"]
