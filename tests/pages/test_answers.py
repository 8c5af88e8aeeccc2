"""Where pages once contradicted themselves or said what is not so; the other cases are in `test_answers`."""

from __future__ import annotations

import re
from urllib.parse import urlencode

import pytest
from streamlit.testing.v1 import AppTest

from moe_core.decide.headline import answer as word
from moe_core.errors import MoEScopeError
from moe_core.jobs.queue import JobQueue
from moe_core.scenario import answer, link
from moe_core.scenario.spec import PRESET, Scenario, targets, work
from moe_core.settings import ROOT, Settings
from tests.pages.conftest import open_page, words


def plain(app: AppTest) -> str:
    return words(app).replace("\\", "")


def another() -> AppTest:
    """Somebody else's session on the same installation."""
    return AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=300)


@pytest.mark.parametrize("preset", ["batch", "agentic"])
def test_choosing_another_preset_and_the_first_again_changes_nothing(filled: AppTest, preset: str) -> None:
    """2: choosing the preset that was shown turned 0.65x cost into 1.05x."""
    open_page(filled, "overview")
    first = filled.title[0].value
    for name in (preset, PRESET):
        filled.selectbox(key="preset").set_value(name).run()
        asked = filled.session_state["scenario_now"]
        assert {field: getattr(asked, field) for field in work(name)} == work(name)
        assert asked.targets == targets(name)
    assert filled.title[0].value == first


@pytest.mark.parametrize("rival", ["sqrt", "Llama-3.1-8B"])
def test_compare_says_the_verdict_of_the_sidebar(app: AppTest, rival: str) -> None:
    """5: opposite winners on Overview and Compare, another rival on each."""
    asked = Scenario("gpt-oss-20b", "L40S", rival=rival, preset="batch", **work("batch"))
    app.query_params["a"] = urlencode(link.parameters(asked))
    open_page(app, "compare")
    found = answer.verdict(asked)
    said = f"{word(found.winner, found.firm)}, against {found.pair.of('dense').name}"
    assert said in app.table[0].value.to_string().replace("\\", "")


def test_a_changed_scenario_keeps_its_rival_and_preset(app: AppTest) -> None:
    """11: preset and rival vanished on other pages."""
    app.query_params["a"] = urlencode(link.parameters(Scenario(rival="sqrt", preset="code", **work("code"))))
    open_page(app, "compare")
    batch = next(one for one in app.number_input if str(one.key).endswith("_batch"))
    batch.set_value(5)
    next(button for button in app.button if button.label == "Change it").click().run()
    (side,) = app.session_state["compared"]
    assert (side.case.batch, side.case.aims.preset, side.case.aims.rival) == (5, "code", "sqrt")


def test_a_failure_belongs_to_its_session(filled: AppTest, settings: Settings) -> None:
    """22: "time_limit_s ran out; allow more time" was shown to every new session."""
    queue = JobQueue(settings)
    open_page(filled, "overview")
    filled.select_slider(key="experts").set_value(8).run()
    ticket = queue.take()
    assert ticket is not None
    job = queue.claim(ticket.job_id, "worker", "Test device")
    assert job is not None
    queue.finish(job, "failed", error=MoEScopeError("time_limit_s (120) ran out"))
    filled.run()
    assert "ran out" in plain(filled)
    other = another()
    other.query_params["experts"] = "8"
    open_page(other, "overview")
    assert "ran out" not in plain(other)


@pytest.mark.parametrize(
    ("page", "query", "named"),
    [
        ("compare", {"a": "garbage"}, "garbage"),
        ("overview", {"many": "300"}, "many (300)"),
        ("decide", {"rival": "GPT-9"}, "rival (GPT-9)"),
        ("architectures", {"subject": "Nope"}, "subject (Nope)"),
        ("economics", {"experts": "7"}, "experts (7)"),
        ("memory", {"traffic": "lots"}, "traffic (lots)"),
    ],
)
def test_what_an_address_asks_is_used_or_named(
    filled: AppTest, page: str, query: dict[str, str], named: str
) -> None:
    """24: another answer than asked for, in silence."""
    filled.query_params.update(query)
    open_page(filled, page)
    assert named in plain(filled)


@pytest.mark.parametrize("page", ["overview", "decide", "economics", "memory", "compare"])
def test_no_page_writes_as_a_machine_does(filled: AppTest, page: str) -> None:
    """25: "28.0" sets of experts, "1 figures", "42.5857 tokens/s"."""
    if page == "compare":
        filled.query_params["a"] = urlencode(link.parameters(Scenario("Mixtral-8x7B", "H200")))
    open_page(filled, page)
    numbers = [f"{one.label} {one.value} {one.help}" for one in filled.metric]
    text = "\n".join([plain(filled), *numbers])
    assert not re.search(r"(?<![\d.,])1 (devices|tokens|sequences|experts|figures|runs)\b", text)
    assert not re.search(r"(?<!\d)\d{1,3}\.\d{4,}", text)
