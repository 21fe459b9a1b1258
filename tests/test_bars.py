"""A bar holds only for a finite number on its right side."""

import pytest

from book.build.bars import compare, read_bars
from book.build.status_page import judged


@pytest.mark.parametrize(
    ("bar", "value", "holds"),
    [
        ({"min": 0.5}, 0.5, True),
        ({"min": 0.5}, 0.499, False),
        ({"max": 0.5}, 0.5, True),
        ({"max": 0.5}, 0.501, False),
        ({"max": 0.5}, float("nan"), False),
        ({"min": 0.5}, float("inf"), False),
        ({"min": 0.5}, None, False),
    ],
)
def test_verdict(bar, value, holds):
    metrics = {} if value is None else {"probe": value}
    (verdict,) = compare(metrics, {"probe": {**bar, "chance": "0.1: ten shapes"}})
    assert verdict.holds is holds
    assert "probe" in str(verdict) and "ten shapes" in str(verdict)


@pytest.mark.parametrize(("value", "holds", "reached"), [(0.4, False, False), (0.5, True, False), (0.9, True, True)])
def test_a_goal_lies_beyond_its_bar_and_is_said_to_be_missed(value, holds, reached):
    (verdict,) = compare({"probe": value}, {"probe": {"min": 0.5, "goal": 0.9, "chance": "0.1: ten shapes"}})
    assert (verdict.holds, verdict.reached) == (holds, reached)
    said = "holds" if reached else "**goal 0.9 missed**" if holds else "**does not hold**"
    assert said in judged("02_b", verdict)


@pytest.mark.parametrize("bar", ["{ min = 1 }", '{ chance = "0" }', '{ min = 1, max = 2, chance = "0" }'])
def test_malformed_bar_is_named(tmp_path, bar):
    (tmp_path / "bars.toml").write_text(f"[02_b]\nprobe = {bar}\n")
    with pytest.raises(ValueError, match="02_b.probe needs"):
        read_bars(tmp_path / "bars.toml")
