"""The table of samplers: what is tried, that a recorded table is one of these, and that an unfinished one goes on."""

import json

import pytest

from xlxmert_core import sampling
from xlxmert_core.chapters import samplers
from xlxmert_core.folder import SHIPPED


def test_every_order_schedule_and_number_of_steps_is_tried_once():
    rows = samplers.settings()
    assert len({tuple(row.items()) for row in rows}) == len(rows)
    assert {row["order"] for row in rows} == set(sampling.ORDERS)
    assert {row["schedule"] for row in rows} == set(sampling.SCHEDULES)
    assert {row["steps"] for row in rows} == {1, 4, 8, 16, 64}
    assert all(row["temperature"] for row in rows if row["guidance"] or row["candidates"] > 1)


def test_every_row_is_a_setting_that_paints():
    for row in samplers.settings():
        sampling.Sampling(**row)


def test_the_recorded_table_has_a_row_for_every_setting():
    table = json.loads((SHIPPED / "storybook" / "samplers.json").read_text())
    assert len(table) == len(samplers.settings())
    assert all(row.items() <= found.items() for row, found in zip(samplers.settings(), table, strict=True))


def test_an_unfinished_table_goes_on_where_it_stopped(tmp_path):
    path, tried = tmp_path / "samplers.json", []
    begun = [row | {"all_right": 0.5} for row in samplers.settings()[:-2]]

    def measure(row: dict) -> dict:
        tried.append(row)
        return {"all_right": 1.0}

    table = samplers.complete(begun, measure, path)
    assert tried == samplers.settings()[-2:]
    assert json.loads(path.read_text()) == table and len(table) == len(samplers.settings())


def test_a_row_is_found_by_its_settings():
    table = samplers.settings()
    assert samplers.found(table, sampling.PAPER)["order"] == "mask_predict"
    assert samplers.found(table, sampling.DEFAULT, polish=0)["candidates"] == 4
    with pytest.raises(StopIteration):
        samplers.found(table, steps=5)
