"""A link says everything that is not as it goes without saying; older links are understood."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_core.scenario import link
from moe_core.scenario.spec import CHOICES, NUMBERS, WORDS, Scenario

FIELD = {name: field for name, field in link.FIELDS.items()}


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    values: dict[str, Any] = {
        "architecture": draw(st.sampled_from(("Qwen3-30B-A3B", "Mixtral-8x7B", "DeepSeek-V3"))),
        "hardware": draw(st.sampled_from(("H100", "L4"))),
        "rival": draw(st.sampled_from(("auto", "sqrt", "Qwen3-8B"))),
    }
    for name in ("batch", "prompt", "answer", "cached", "seq"):
        values[name] = draw(st.sampled_from(CHOICES[name]))
    for name in ("preset", "precision", "training", "skill", "model"):
        values[name] = draw(st.sampled_from(WORDS[name]))
    for name in NUMBERS:
        values[FIELD[name]] = draw(st.none() | st.sampled_from((0.5, 3.0, 250.0)))
    values["devices"] = draw(st.sampled_from((None, 1, 16)))
    values["experts"] = draw(st.sampled_from((None, 16, 64)))
    return Scenario(**values)


def opened(parameters: dict[str, str]) -> Scenario:
    """The scenario that the sidebar shows for a link."""
    values = {FIELD[name]: link.typed(name, value) for name, value in parameters.items()}
    for name in ("devices", "task"):
        if name in values:
            values[name] = None if values[name] == "auto" else values[name]
    if values.get("devices"):
        values["devices"] = int(values["devices"])
    return Scenario(**values)


@given(scenarios())
def test_what_a_link_says_is_what_opens(asked: Scenario) -> None:
    plain = asked._replace(**dict(zip(link.KNOBS, asked.bank or (), strict=True)))
    assert opened(link.parameters(asked)) == plain
    short = opened(link.spoken(asked))
    assert short._replace(**dict(zip(link.KNOBS, short.bank or (), strict=True))) == plain


def test_the_first_screen_needs_no_words() -> None:
    assert link.spoken(Scenario()) == {"architecture": "Qwen3-30B-A3B", "hardware": "H100"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"context": "4096", "write": "512"}, {"prompt": "3584", "answer": "512"}),
        ({"context": "8192", "write": "64"}, {"prompt": "8128", "answer": "64"}),
        ({"context": "8192"}, {"prompt": "8128", "answer": "64"}),
        ({"experts": "16", "top_k": "4", "edit": "false"}, {}),  # of the test model, which was another one
        ({"experts": "16", "top_k": "4", "edit": "true"}, {"experts": "16", "top_k": "4"}),
        ({"colour": "red", "batch": "8"}, {"batch": "8"}),
        ({"context": "many", "write": "-1"}, {}),
    ],
)
def test_older_links_are_read(old: dict[str, str], new: dict[str, str]) -> None:
    assert link.modern(old) == new


def test_what_the_test_model_runs_is_said() -> None:
    assert link.tested(Scenario("DBRX")) == "Runs 16 experts, top-4."
    assert link.tested(Scenario("DeepSeek-V3")).endswith(
        "128 experts, top-4, 1 shared: the nearest it can do."
    )
