"""One scenario, one answer: the same quantity has the same number for the same words, wherever it is said.

What `moe_core.scenario.answer` says of a scenario is held against every page, file, review and command, to
the last digit shown. `tests/scenarios.py` lists the questions; Hypothesis adds more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from app import models
from moe_core.cli import main
from moe_core.cli.hear import hear
from moe_core.decide.flips import between, curve
from moe_core.decide.headline import QUICK, headline
from moe_core.decide.serving import Serving
from moe_core.decide.verdict import Verdict
from moe_core.errors import InfeasibleError, MoEScopeError
from moe_core.registry import get, names
from moe_core.report import compare, decided, kinds, side
from moe_core.scenario import answer, costs, link, subjects
from moe_core.scenario.decision import dense_models
from moe_core.scenario.resolved import Resolved, resolve
from moe_core.scenario.spec import CHOICES, Scenario
from moe_core.settings import ROOT
from moe_core.units import quantity, significant
from tests.pages.conftest import installations, scanned_once, words  # noqa: F401 -- fixtures
from tests.scenarios import SCENARIOS

PUBLISHED = [one for one in SCENARIOS if one.own is None]


@lru_cache(maxsize=256)
def verdict(scenario: Scenario) -> Verdict | str:
    """The verdict, or the sentence that says why there is none."""
    try:
        return answer.verdict(scenario, hear(scenario.run_spec(), scenario.bank, scenario.load))
    except MoEScopeError as error:
        return str(error)


def said(found: Verdict) -> str:
    """Its headline, with the flip that is named."""
    known = [name for name in QUICK if (name == "traffic") == (found.spec.workload.traffic is not None)]
    return headline(found, [flip for name in known for flip in between(found, name, curve(found, name))])


@lru_cache(maxsize=256)
def sides(scenario: Scenario) -> tuple[Resolved, Resolved | None]:
    """The mixture and its rival, resolved, with the load that is heard."""
    mixture = resolve(scenario, hear(scenario.run_spec(), scenario.bank, scenario.load))
    found = verdict(scenario)
    if isinstance(found, str):
        return mixture, None
    dense = found.pair.of("dense").architecture
    asked = mixture.question
    other = {"architecture": dense, "label": f"{dense.name} as published", "record": None}
    other |= {"precision": asked.formats(dense), "kv": asked.cache(dense)}
    return mixture, mixture.model_copy(update={**other, "load": None, "heard": None, "run": None})


def figures(one: Serving) -> dict[str, float]:
    """What is said of a served model, by the kinds of report.kinds."""
    found = {
        "devices": one.devices,
        "memory.device": one.need,
        "memory.all": one.everywhere,
        "time.token": one.step.seconds,
        "time.first": one.first.seconds,
        "rate.device": answer.rate(one),
    }
    if one.cost is not None:
        found |= {"cost.prompts": one.cost, "cost.decoding": answer.decoding(one) or 0.0}
    if one.joules is not None:
        found |= {"energy.prompts": one.joules}
    return found


# -- files and commands ----------------------------------------------------------------------------


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_file_says_what_the_verdict_says(scenario: Scenario) -> None:
    """Numbers of a manifest, of the mixture and of its rival, are those of the sides of the verdict."""
    found = verdict(scenario)
    if isinstance(found, str):
        return
    for case, one, missed in zip(sides(scenario), found.case.both, found.misses, strict=True):
        assert case is not None
        hard = answer.refusal(one) is not None
        for how, value in figures(one).items():
            shown = kinds.compute(how, case, {})
            if hard and not how.startswith(("memory", "devices")):
                assert isinstance(shown, str), how
                assert missed[0].words in shown
            else:
                assert shown == pytest.approx(value, rel=1e-6 if how.startswith("memory") else 1e-12), how


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_review_keeps_the_headline(scenario: Scenario) -> None:
    found = verdict(scenario)
    if not isinstance(found, str):
        kept = decided.keep(found)
        assert kept.sentence == said(found)
        assert decided.again(kept.asked.model_dump(mode="json")).sentence == kept.sentence


@pytest.mark.parametrize("scenario", PUBLISHED)
def test_a_link_means_the_scenario(scenario: Scenario) -> None:
    spoken = link.parameters(scenario)
    again = link.scenario(spoken)
    assert link.parameters(again) == spoken
    assert verdict(again) == verdict(scenario) or isinstance(verdict(scenario), Verdict)
    if isinstance(found := verdict(scenario), Verdict):
        other = verdict(again)
        assert isinstance(other, Verdict)
        assert said(other) == said(found)
    assert side.of(spoken).case == resolve(scenario)


@pytest.mark.parametrize("scenario", PUBLISHED)
def test_commands_say_what_the_pages_say(scenario: Scenario, capsys: pytest.CaptureFixture[str]) -> None:
    query, found = urlencode(link.parameters(scenario)), verdict(scenario)
    code = main(["decide", "--link", query, "--json"])
    told = json.loads(capsys.readouterr().out)
    if isinstance(found, str):
        assert code != 0
        assert told["error"]["message"] == found
        return
    assert told["headline"] == said(found)
    assert told["devices"] == dict(zip(("mixture", "dense"), found.case.devices, strict=True))
    assert main(["compare", "--scenario", query, "--json"]) == 0
    rows = {row["key"]: row["cells"][0] for row in json.loads(capsys.readouterr().out)["rows"]}
    mixture, _ = sides(scenario)
    for how in compare.RESULTS:
        assert rows[how]["text"] == compare.cell(how, mixture).text, how


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_economics_prices_what_the_verdict_prices(scenario: Scenario) -> None:
    found, recorded = verdict(scenario), hear(scenario.run_spec(), scenario.bank, scenario.load)
    if isinstance(found, str):
        return
    mixture, missed = found.case.both[0], answer.refusal(found.case.both[0])
    load = recorded.load if recorded else None
    if missed is not None:
        with pytest.raises(InfeasibleError) as raised:
            costs.study(scenario, "vllm", load)
        assert missed.words in str(raised.value)
        return
    study = costs.study(scenario, "vllm", load)
    one = costs.served(study, study.mixture)
    assert figures(one) == pytest.approx(figures(mixture))


# -- pages -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shown(
    tmp_path_factory: pytest.TempPathFactory,
    installations: Callable[..., Path],  # noqa: F811
) -> Iterator[Callable[[Scenario, str], str]]:
    """Everything that a page of a fresh installation says of a scenario."""
    import shutil

    from app import data
    from moe_core.settings import REFERENCE

    patch = pytest.MonkeyPatch()
    place = tmp_path_factory.mktemp("one") / "state"
    shutil.copytree(installations((), REFERENCE), place)
    patch.setenv("MOE_DATA_DIR", str(place))
    patch.setenv("MOE_WORKER", "external")
    data._open.clear()

    def page(scenario: Scenario, name: str, **query: str) -> str:
        app = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=300)
        if scenario.own is not None:
            app.session_state[models._OWN] = {scenario.own.name: subjects.own(scenario.own, "imported")}
        app.query_params.update({**link.parameters(scenario), **query})
        if name != "overview":
            app.switch_page(f"../pages/{name}.py")
        app.run()
        assert not app.exception, app.exception
        numbers = [f"{one.label} {one.value} {one.help}" for one in app.metric]
        tables = [element.value.to_string() for kind in ("table", "dataframe") for element in app.get(kind)]
        return "\n".join([words(app), *numbers, *tables]).replace("\\", "")

    yield page
    data._open.clear()
    patch.undo()


def shown_figures(one: Serving) -> list[str]:
    """A served model's four numbers as pages write them."""
    times = [quantity(one.step.seconds, "s"), quantity(one.first.seconds, "s")]
    return [
        times[0],
        quantity(one.everywhere, "B"),
        times[1],
        "no price" if one.cost is None else f"${significant(one.cost)}",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("page", ["overview", "decide"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_overview_and_decide_say_the_answer(shown: Callable[..., str], scenario: Scenario, page: str) -> None:
    text, found = shown(scenario, page), verdict(scenario)
    if isinstance(found, str):
        assert found[1:] in text
        return
    assert said(found) in text
    for one, missed in zip(found.case.both, found.misses, strict=True):
        refused = answer.refusal(one)
        for number in shown_figures(one) if refused is None else [missed[0].words]:
            assert number in text, number


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_economics_and_memory_say_the_same_numbers(shown: Callable[..., str], scenario: Scenario) -> None:
    mixture, _ = sides(scenario)
    one = answer.served(mixture)
    text, memory = shown(scenario, "economics"), shown(scenario, "memory")
    if (missed := answer.refusal(one)) is not None:
        assert missed.words in text
        return
    time, _, _, price = shown_figures(one)
    assert time in text
    assert price in text
    spare = quantity(one.usable - answer.memory_of(mixture).footprint.total, "B")
    assert f"with {spare} to spare" in memory
    assert (f"each of {one.devices:,} × " in memory) == (one.devices > 1)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", PUBLISHED)
def test_compare_says_the_same_numbers(shown: Callable[..., str], scenario: Scenario) -> None:
    mixture, dense = sides(scenario)
    every = [one for one in (mixture, dense) if one is not None]
    query = side.link([side.of_case("", one) for one in every])
    text = shown(scenario, "compare", **query)
    for case in every:
        one = answer.served(case)
        if answer.refusal(one) is None:
            time, whole, first, price = shown_figures(one)
            for number in (time, whole, first, price):
                assert number in text, number


# -- at random -------------------------------------------------------------------------------------

MIXTURES = [name for name in names() if (arch := get(name).architecture) and arch.experts]


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    """Any question that the sidebar can ask."""
    some: dict[str, Any] = {
        "architecture": draw(st.sampled_from(MIXTURES)),
        "hardware": draw(st.sampled_from(["H100", "H200", "B200", "A100 80GB", "L40S"])),
        "batch": draw(st.sampled_from(CHOICES["batch"])),
        "prompt": draw(st.sampled_from(CHOICES["prompt"])),
        "answer": draw(st.sampled_from(CHOICES["answer"])),
        "cached": draw(st.sampled_from(CHOICES["cached"])),
        "devices": draw(st.none() | st.sampled_from([1, 2, 4, 8, 16])),
        "precision": draw(st.sampled_from(["auto", "fp8", "int4"])),
        "traffic": draw(st.none() | st.sampled_from([0.25, 2.0, 32.0])),
        "latency_ms": draw(st.none() | st.sampled_from([5.0, 20.0, 100.0])),
        "experts": draw(st.none() | st.sampled_from(CHOICES["experts"])),
        "rival": draw(st.sampled_from(["auto", "sqrt", *dense_models()[:6]])),
    }
    return Scenario(**some)


@given(scenario=scenarios())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_scenario_has_one_answer(scenario: Scenario) -> None:
    test_a_file_says_what_the_verdict_says(scenario)
    test_a_review_keeps_the_headline(scenario)
    test_a_link_means_the_scenario(scenario)
