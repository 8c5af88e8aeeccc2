"""Comparisons: the table agrees with the predictor, differences are found, the sentence is arithmetic."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_core import hardware, registry
from moe_core.formats import BITS
from moe_core.perf.economics import per_million
from moe_core.perf.precision import MIXES
from moe_core.report import answer, compare, kinds, side, tables
from moe_core.report.compare import Cases, Line
from moe_core.report.manifest import make
from moe_core.report.reproduce import reproduce
from moe_core.scenario import answer as answers
from moe_core.units import significant

A100 = "hardware=A100 80GB&precision=int8&batch=1"
PAIR = (f"architecture=Mixtral-8x7B&{A100}", f"architecture=Llama-2-70B&{A100}")


def cases(*queries: str) -> Cases:
    return side.labels([side.read(one)[0] for one in queries])


def row(found: Cases, key: str) -> Line:
    return next(one for one in compare.table(found) if one.key == key)


def test_the_numbers_are_those_of_the_answer():
    found = cases(*PAIR)
    for key, figure in (("time.token", "step"), ("time.first", "first")):
        for cell, case in zip(row(found, key).cells, found.values(), strict=True):
            reading = getattr(answers.served(case), figure)
            assert (cell.value, cell.low, cell.high) == (reading.seconds, reading.lower, reading.upper)
            assert cell.source == reading.source
    one = answers.served(next(iter(found.values())))
    alone = row(found, "cost.decoding").cells[0]
    price = hardware.get("A100 80GB").usd_per_hour
    assert alone.value == pytest.approx(per_million(price, one.devices, 1 / one.step.seconds))
    assert alone.low < alone.value < alone.high  # type: ignore[operator]
    assert row(found, "cost.prompts").cells[0].value == one.cost
    assert one.cost > alone.value  # type: ignore[operator]


def test_a_typed_price_takes_the_listed_ones_place():
    listed, own = cases(PAIR[0], PAIR[0] + "&price=3.2").values()
    assert kinds.price(listed) == hardware.get("A100 80GB").usd_per_hour
    assert kinds.price(own) == 3.2
    many = [kinds.compute("cost.prompts", one, {}) for one in (listed, own)]
    assert many[1] == pytest.approx(3.2 / kinds.price(listed) * many[0])  # type: ignore[operator]


def test_differences_and_the_best_are_marked():
    found = cases(*PAIR)
    rows = {one.key: one for one in compare.table(found)}
    assert rows["model"].differs
    assert not rows["hardware"].differs
    assert rows["memory.weights"].best == (0,)
    assert rows["rate.device"].best == (0,)
    assert rows["params.total"].best == ()  # neither more nor less is better
    assert rows["experts.distinct"].cells[1].text == "dense"
    same = compare.table(cases(PAIR[0], PAIR[0]))
    assert not [one.title for one in same if one.differs]


def test_every_result_names_its_provenance_and_every_row_has_a_cell_for_each():
    found = cases(*PAIR, "architecture=DeepSeek-V3", "architecture=gpt-oss-120b&hardware=RTX 4090")
    for one in compare.table(found):
        assert len(one.cells) == 4
        if one.key in compare.RESULTS:
            assert all(cell.source or cell.value is None for cell in one.cells)


def test_what_does_not_fit_is_a_sentence_with_its_numbers():
    found = cases("architecture=DeepSeek-V3&hardware=RTX 4090&context=100000&batch=4096")
    assert "needs" in row(found, "time.token").cells[0].text
    assert re.search(r"A DeepSeek-V3 (needs .* of 24.5 GB|takes at most)", answer.sentence(found))


def test_a_device_without_a_data_sheet_has_memory_and_no_times():
    found = cases("architecture=Mixtral-8x7B&hardware=this machine&capacity=200000000000")
    assert row(found, "devices").cells[0].value == 1
    assert row(found, "time.token").cells[0].text == "not known here"
    assert answer.sentence(found) == "A has no published kernel times"


def test_the_sentence_is_the_ratio_of_the_table():
    found = cases(*PAIR)
    fast, slow = (cell.value for cell in row(found, "time.token").cells)
    said = answer.sentence(found)
    assert said.startswith("Scenario A (Mixtral-8x7B) writes a token ")
    assert f" {significant(slow / fast, 2)}× faster than B (Llama-2-70B)" in said  # type: ignore[operator]
    assert "because its feed-forward layers take" in said
    assert "fewer bytes" in said


def test_the_reason_is_the_part_with_most_of_the_difference():
    found, _ = answer.timed(cases(*PAIR))
    parts = [answer._parts(answers.step(one.served)) for one in found]
    gaps = {name: parts[1][name][0] - parts[0][name][0] for name in answer.PARTS}
    assert max(gaps, key=lambda name: gaps[name]) == "feed-forward layers"
    for one, split in zip(found, parts, strict=True):
        assert sum(seconds for seconds, _ in split.values()) == pytest.approx(one.reading.seconds)


def test_unequal_batches_are_said():
    said = answer.sentence(cases(PAIR[0], PAIR[0].replace("batch=1", "batch=16")))
    assert said.startswith("Scenario A (batch 1) writes a token")
    assert "against" not in said
    others = answer.sentence(cases(PAIR[0], PAIR[1].replace("batch=1", "batch=16")))
    assert "(batch 1 against 16)" in others


def test_equal_scenarios_are_called_equal():
    assert "write a token equally fast" in answer.sentence(cases(PAIR[0], PAIR[0]))


def test_a_verdict_is_against_the_rival_that_stands_beside_it():
    found = cases(*PAIR)
    mixture, dense = row(found, "verdict").cells
    assert "against Llama-2-70B" in mixture.text
    assert "against Mixtral-8x7B" in dense.text
    assert mixture.value == dense.value == "mixture"
    alone = row(cases(PAIR[1]), "verdict").cells[0]
    assert alone.text == "no mixture beside it"


def test_frames_hold_what_is_drawn():
    found = cases(*PAIR, "architecture=Mixtral-8x7B&batch=6")
    lines = tables.decode(found)
    assert set(lines[lines["scenario"] == list(found)[2]]["batch"]) >= {1, 6}
    assert (lines["low"] <= lines["ms"]).all()
    assert (lines["ms"] <= lines["high"]).all()
    bars = tables.footprints(found)
    assert (bars.groupby("scenario")["GB"].sum() <= bars.groupby("scenario")["usable"].first()).all()


def test_a_split_that_does_not_fit_has_no_times():
    one, other = cases("architecture=DeepSeek-V3&tensor=2", "architecture=Mixtral-8x7B&tensor=8").values()
    assert re.search(r"none: DeepSeek-V3 needs .* \d+ devices would do", compare.used(one).text)
    assert compare.used(other).text == "tensor 8"
    assert kinds.compute("devices", other, {}) == 8


def test_every_number_of_a_comparison_can_be_made_again():
    found = cases(*PAIR, "architecture=Mixtral-8x7B&price=3&tensor=4")
    numbers = [number for name, case in found.items() for number in kinds.of_scenario(name, case)]
    assert {"cost.prompts", "cost.decoding", "rate.device", "memory.weights", "memory.cache"} <= {
        one.how for one in numbers
    }
    scenarios = {name: case.model_dump(mode="json") for name, case in found.items()}
    made = make("figure", "A comparison", scenarios=scenarios, numbers=numbers)
    checks = reproduce(made, find=lambda run: pytest.fail(f"no run is asked for: {run}"))
    assert {one.outcome for one in checks} == {"equal"}


@given(
    model=st.sampled_from(registry.names()),
    device=st.sampled_from(hardware.names()),
    precision=st.sampled_from([*BITS, *MIXES]),
    batch=st.sampled_from([1, 7, 64, 4096]),
    context=st.sampled_from([1, 2, 4096, 131_072, 1_000_000]),
    ways=st.sampled_from([(1, 1), (8, 1), (1, 8), (3, 1), (8, 64)]),
)
@settings(max_examples=60, deadline=None)
def test_any_scenario_has_a_table_and_a_sentence(
    model: str, device: str, precision: str, batch: int, context: int, ways: tuple[int, int]
):
    said = {"architecture": model, "hardware": device, "precision": precision, "batch": str(batch)}
    said |= {"context": str(context), "tensor": str(ways[0]), "expert": str(ways[1])}
    found = side.labels([side.of(said)])
    assert all(cell.text for line in compare.table(found) for cell in line.cells)
    assert answer.sentence(found)
    assert (tables.footprints(found)["GB"] > 0).all()
