"""The price of the busiest expert: drawn in seconds, told at the scenario's own step."""

from __future__ import annotations

from altair.utils import schemapi

from app.balancing import charts
from moe_core.report import formats
from moe_core.report.manifest import make
from moe_core.scenario import costs, loads
from moe_core.scenario.spec import Scenario

HERE = {"decoding": 16, "prompts": 65_536}


def test_the_price_says_what_the_busiest_takes_and_over_an_even_load() -> None:
    study = costs.study(Scenario(), "vllm", None)
    rows = loads.hottest(study, {"none": 4.0, "bias": 1.0, "even": 0.0}, (16, 1024, 65_536))
    with schemapi.debug_mode(True):
        figure = charts.price(rows, HERE, "H100", "even")
    by = rows[rows["tokens"] == 65_536].set_index("load")["seconds"]
    assert figure.title.startswith("At 65,536 tokens a step the busiest expert takes")
    assert f"{by['none'] / by['even']:.3g}× the time of an even load" in figure.title
    assert "with no balancing on H100" in figure.title
    drawn = formats.svg(figure, make("figure", figure.title), "dark").decode()
    assert "NaN" not in drawn
