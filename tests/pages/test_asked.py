"""What a link asks of a page's own widgets: used, or named in one sentence with what is used instead."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from moe_core.scenario.spec import unusable
from tests.pages.conftest import open_page

BAD = (
    ("routing", "layer", "99", "0 is used"),
    ("routing", "expert", "999", "0 is used"),
    ("routing", "domain", "poetry", "all is used"),
    ("routing", "view", "nope", "must be one of Load, Text, Price"),
    ("memory", "budget", "nope", "Every device is used"),
    ("memory", "kv_format", "fp7", "must be one of as stored, bf16"),
    ("memory", "tensor", "3", "as served is used"),
    ("memory", "mix", "nope", "as the scenario is used"),
    ("speed", "timing", "nope", "Architecture or code is used"),
    ("architectures", "subject", "Nope", "must be a known subject; Qwen3-30B-A3B is used"),
    ("architectures", "look", "nope", "This model is used"),
    ("architectures", "convention", "nope", "is used"),
    ("architectures", "rumours", "perhaps", "must be one of true, false; false is used"),
    ("claims", "by", "nope", "must be one of Topic, Type, Document"),
    ("claims", "ledger", "nope", "must be one of Corrections, All claims, One claim"),
    ("architectures", "changes", "zz:9", "must be a field, a colon and a number; it is ignored"),
)


def notices(app: AppTest) -> list[str]:
    return [str(warning.value).replace("\\", "") for warning in app.sidebar.warning]


@pytest.mark.parametrize(("page", "field", "value", "rule"), BAD)
def test_what_a_page_cannot_use_is_one_sentence(
    filled: AppTest, page: str, field: str, value: str, rule: str
) -> None:
    filled.query_params[field] = value
    open_page(filled, page)
    (notice,) = notices(filled)
    assert notice.startswith(f"{field} (")
    assert value in notice
    assert rule in notice
    filled.run()
    assert notices(filled) == [notice]  # it stays in sight
    filled.select_slider(key="batch").set_value(2).run()
    filled.run()
    assert not notices(filled)  # until the user moves on


@pytest.mark.parametrize(
    ("page", "field", "value"),
    [
        ("routing", "view", "Text"),
        ("routing", "layer", "1"),
        ("memory", "tensor", "2"),
        ("architectures", "subject", "Mixtral-8x7B"),
        ("architectures", "rumours", "true"),
        ("architectures", "look", "Compare"),
    ],
)
def test_what_a_page_can_use_is_used_in_silence(filled: AppTest, page: str, field: str, value: str) -> None:
    filled.query_params[field] = value
    open_page(filled, page)
    assert not notices(filled)
    assert str(filled.session_state[field]) in (value, "True")


def test_the_model_that_is_named_is_the_one_that_is_shown(filled: AppTest) -> None:
    filled.query_params["subject"] = "Nope"
    open_page(filled, "architectures")
    assert notices(filled)[0].endswith("Qwen3-30B-A3B is used")
    assert str(filled.title[0].value).replace("\\", "").startswith("Qwen3-30B-A3B keeps")


def test_the_rule_is_short_however_many_choices_there_are() -> None:
    layers = [str(layer) for layer in range(61)]
    assert unusable("layer", "99", layers, "0") == "layer (99): must be a number from 0 to 60; 0 is used"
    assert unusable("subject", "x", ["a"] * 20, "a") == "subject (x): must be a known subject; a is used"
    assert unusable("layer", "9", ["0"], "0") == "layer (9): must be 0; 0 is used"
