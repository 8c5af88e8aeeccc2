"""Costs: layouts, steps, money and crossings of a scenario and its rivals."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import pandas as pd
import pytest

from app.architectures import workshop
from app.economics import tabs as economics_tabs
from moe_core.errors import ConfigError, InfeasibleError
from moe_core.scenario import costs, loads, subjects
from moe_core.scenario.costs import Study
from moe_core.scenario.devices import HERE
from moe_core.scenario.spec import Scenario
from moe_core.silicon.dense_equivalent import TOKENS
from moe_core.units import quantity

SKEWED = tuple(2.0**-i for i in range(16))


@cache
def study(
    name: str = "Qwen3-30B-A3B", hardware: str = "H100", batch: int = 8, beside: str | None = None
) -> Study:
    return costs.study(Scenario(name, hardware, batch=batch), "vllm", SKEWED, beside)


def test_everybody_gets_the_devices_that_hold_him() -> None:
    found = study("Mixtral-8x7B")
    held = {one.name: costs.served(found, one).devices for one in found.subjects}
    assert held == {"Mixtral-8x7B": 2, "dense twin, equal active": 1, "dense twin, equal total": 2}
    assert [one.model for one in found.subjects] == ["mixture", "dense", "dense"]


def test_what_fits_no_number_of_devices_is_refused_with_the_numbers() -> None:
    with pytest.raises(InfeasibleError, match=r"DeepSeek-V3 needs .* of "):
        costs.study(Scenario("DeepSeek-V3", "L4", devices=2), "vllm", None, None)


def test_a_step_takes_what_the_answer_says() -> None:
    found = study()
    one = costs.served(found, found.mixture)
    step = costs.step(found, found.mixture, 8)
    assert (step.seconds, step.lower, step.upper) == (one.step.seconds, one.step.lower, one.step.upper)
    assert sum(part.seconds for part in step.parts) == pytest.approx(step.seconds)


def test_prompt_and_answer_make_the_context() -> None:
    found = costs.study(Scenario("Qwen3-30B-A3B", "H100", prompt=256, answer=256), "vllm", None, None)
    assert (found.prompt, found.written) == (256, 256)
    assert found.prompt <= found.past < 512


def test_this_machine_has_no_tables_and_that_is_said() -> None:
    with pytest.raises(ConfigError, match=r"hardware \(this machine\): must be a listed device"):
        study(hardware=HERE)


def test_a_model_beside_is_a_rival_too() -> None:
    assert study(beside="Llama-3.1-8B").rivals[-1].model == "dense"
    assert study(beside="gpt-oss-20b").rivals[-1].model == "mixture"


def test_steps_grow_with_the_batch_and_keep_their_interval() -> None:
    rows = costs.steps(study(), "decode")
    for _, part in rows.groupby("name"):
        for _, same in part.groupby("devices"):  # one device more is faster again
            assert same["seconds"].is_monotonic_increasing
        assert (part["lower"] < part["seconds"]).all()
        assert (part["seconds"] < part["upper"]).all()
    mixture = rows[rows["model"] == "mixture"]
    assert mixture["distinct"].between(8, 128).all()
    assert mixture["source"].iloc[0] == "measured elsewhere"  # the tables hold this layer


def test_the_layer_of_a_study_forgets_the_work_but_not_the_load() -> None:
    long = costs.study(Scenario("Qwen3-30B-A3B", "H100", prompt=7680), "vllm", SKEWED, None)
    assert long != study()
    assert long.layer == study().layer
    assert study().layer.load == SKEWED


def test_dollars_are_price_times_devices_over_tokens() -> None:
    rows = costs.rates(costs.steps(study(), "decode"), 3.6)
    for row in rows.to_dict("records"):
        assert row["dollars"] == pytest.approx(
            3.6 / 3600 * row["devices"] * row["seconds"] / row["batch"] * 1e6
        )
        assert row["dollars_low"] < row["dollars"] < row["dollars_high"]


def test_over_demand_nobody_is_cheaper_than_fully_used() -> None:
    steps = costs.steps(study(), "decode")
    rows = costs.over_demand(steps, 2.5)
    best = costs.rates(steps, 2.5).groupby("name")["dollars"].min()
    for name, part in rows.groupby("name"):
        assert part["dollars"].min() >= best[name] * (1 - 1e-9)
        assert part["dollars"].iloc[0] > part["dollars"].iloc[-1]
        assert (part["copies"].diff().dropna() >= 0).all()


def test_parts_are_the_step() -> None:
    of = study()
    rows = costs.parts(of, "decode", (1, 8))
    for batch, part in rows.groupby("batch"):
        assert part["seconds"].sum() == pytest.approx(costs.step(of, of.mixture, int(batch)).seconds)


def test_weights_and_cache_are_what_a_step_reads() -> None:
    of = study()
    rows = costs.cache_bytes(of, (1, 8))
    whole = rows.groupby("batch")["bytes"].sum()
    assert whole[8] == pytest.approx(costs.step(of, of.mixture, 8).bytes)
    cache_ = rows[rows["part"] != "weights"].set_index("batch")["bytes"]
    assert cache_[8] == pytest.approx(8 * cache_[1])


def test_a_crossing_is_where_the_sign_changes() -> None:
    """A small dense rival: the mixture reads more experts with every sequence."""
    of = study(beside="Llama-3.1-8B")
    rival = of.rivals[-1]
    found = costs.crossings(of, rival)
    rows = costs.steps(of, "decode").pivot(index="batch", columns="name", values="seconds").dropna()
    signs = (rows[of.mixture.name] < rows[rival.name]).tolist()
    assert len(found) == sum(a != b for a, b in pairwise(signs))
    for batch, faster in found:
        times = {one.name: costs.step(of, one, batch).seconds for one in (of.mixture, rival)}
        assert min(times, key=lambda name: times[name]) == faster


# -- loads -----------------------------------------------------------------------------------------


def test_a_recorded_load_is_a_curve_of_ranks() -> None:
    frame = pd.DataFrame({"layer": [0, 0, 1, 1], "expert": [0, 1, 0, 1], "pairs": [30, 10, 0, 8]})
    assert loads.recorded(frame) == pytest.approx((0.875, 0.125))


def test_curves_name_their_load_and_source() -> None:
    rows = loads.curve_rows(loads.curves(study()), study())
    kinds = rows.drop_duplicates("series")["kind"].tolist()
    assert kinds == ["measured elsewhere", "modelled", "modelled"]
    assert loads.RECORDED in rows["series"].iloc[-1]
    assert (rows["active"] == 8 * 768).all()
    recorded = rows[rows["series"] == rows["series"].iloc[-1]].set_index("tokens")["width"]
    drawn = rows[rows["series"] == rows["series"].iloc[0]].set_index("tokens")["width"]
    assert recorded[16] < drawn[16]  # so skewed a load hits few experts


def test_imbalance_is_relative_to_an_even_load() -> None:
    rows = loads.imbalance(study().layer)
    assert set(rows["load"]) == {*loads.WORDS.values(), loads.RECORDED}
    assert set(rows["tokens"]) == set(TOKENS)
    assert rows[rows["load"] == loads.RECORDED]["ratio"].min() < 0.8
    one = rows[(rows["tokens"] == 1)]["ratio"]
    assert one.between(0.8, 1.25).all()  # one token visits top-k experts under any load


def test_the_exchange_costs_more_between_nodes() -> None:
    rows = loads.exchanged(study().layer)
    assert rows[["low", "high"]].to_numpy().min() > 0
    assert rows[["low", "high"]].to_numpy().max() < 1
    assert (rows["low"] <= rows["high"]).all()
    mean = rows.assign(middle=(rows["low"] + rows["high"]) / 2).groupby("link")["middle"].mean()
    assert mean[loads.BETWEEN] > mean[loads.NODE]


def test_few_experts_are_not_dealt_out_further_than_they_go() -> None:
    rows = loads.exchanged(study("Mixtral-8x7B").layer)
    assert set(rows["link"]) == {loads.NODE}


def test_a_token_of_deepseek_v3_is_the_same_work_on_two_pages() -> None:
    """Whole model, latent attention absorbed, after 4,096 tokens: on several devices as in the workshop."""
    asked = Scenario("DeepSeek-V3", "B200", prompt=3968, answer=256, cached=0, precision="fp8")
    of = costs.study(asked, "vllm", None)
    assert (of.past, costs.served(of, of.mixture).devices > 1) == (4096, True)
    row = economics_tabs._per_token(of, 8).set_index("model").loc[of.mixture.name]
    assert row["FLOPs a token"] == quantity(142_858_076_160, "FLOP")
    model = subjects.published("DeepSeek-V3")
    line = workshop._measures(model, model, Scenario("DeepSeek-V3", prompt=3840, answer=256, cached=0))[-1]
    assert line.what == "FLOPs a token, latent attention absorbed, at a context of 4,096"
    assert (line.old, line.new) == (142_858_076_160, 142_858_076_160)
