"""The ledger's file: every row, strictly read, in our own words, without a verdict."""

from __future__ import annotations

import re
import tomllib
from typing import get_args

import pytest

from moe_core.claims import spec
from moe_core.claims.spec import DATA, ByRun, Claim
from moe_core.claims.verdict import OUTCOMES
from moe_core.errors import ConfigError
from tests.claims.found import PROMISED

ROW = """
[document]
A = "one"
B = "other"
[[claim]]
id = "A1"
claim = "There are 28 ways to choose 2 of 8."
topic = "routing"
type = "arithmetic"
statement = { says = "equals", number = 28, unit = "sets" }
how = [{ by = "formula", measures = "ways", formula = "sets", using = { experts = 8, top_k = 2 } }]
"""


def parsed(old: str = "", new: str = "") -> Claim:
    text = "correction = []\n" + ROW.replace(old, new) if old else "correction = []\n" + ROW
    return spec.read(text).claim[0]


def test_every_row_of_the_audit_is_there() -> None:
    wanted = [f"A{row}" for row in range(1, 112)] + [f"B{row}" for row in range(1, 55)]
    assert list(spec.claims()) == wanted


def test_at_least_a_hundred_can_be_tested_and_the_others_say_why_not() -> None:
    claims = spec.claims().values()
    assert sum(one.testable for one in claims) >= 150
    assert all(len(one.reason) > 30 for one in claims if not one.testable)


def test_the_seventeen_corrections_and_the_rows_they_belong_to() -> None:
    assert [one.number for one in spec.ledger().correction] == list(range(1, 18))
    flagged = {one.id for one in spec.claims().values() if one.correction is not None}
    named = {"A41", "A37", "A31", "A32", "A68", "A63", "A62", "A5", "A48", "A49", "A9", "A105", "A54"}
    assert flagged >= named | {"B40", "B43", "B27", "B49", "B34", "B35", "B24", "B44", "A98", "A103"}


def test_no_verdict_stands_in_the_file() -> None:
    text = DATA.read_text(encoding="utf-8")
    keys = set()

    def walk(value: object) -> None:
        if isinstance(value, dict):
            keys.update(value)
            for part in value.values():
                walk(part)
        elif isinstance(value, list):
            for part in value:
                walk(part)

    walk(tomllib.loads(text))
    assert not keys & {"verdict", "outcome", "result", "found", "agrees"}
    assert not [outcome for outcome in OUTCOMES if re.search(rf'= "{outcome}"', text)]


def test_claims_are_sentences_of_their_own() -> None:
    claims = [one.claim for one in spec.claims().values()]
    assert all(claim.endswith(".") and claim[0].isupper() for claim in claims)
    assert len(set(claims)) == len(claims)


def test_runs_are_cited_by_names_that_experiments_find() -> None:
    cited = [one for claim in spec.claims().values() for one in claim.how if isinstance(one, ByRun)]
    names = {(one.lab, name) for one in cited for name in (one.finding, one.over, one.minus) if name}
    unknown = [(lab, name) for lab, name in names if name not in PROMISED[lab]]
    assert not unknown
    assert {lab for lab, _ in names} >= set(PROMISED)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('topic = "routing"', 'topic = "cooking"', "topic"),
        ('type = "arithmetic"', 'type = "arithmetic"\nverdict = "holds"', "verdict"),
        ('formula = "sets"', 'formula = "bags"', "formula (bags)"),
        ("top_k = 2", "top_q = 2", "using (experts, top_q)"),
        ("number = 28, ", "", "number (None) must be given"),
        ('says = "equals"', 'says = "between"', "to (None) must be given"),
        ('says = "equals"', 'says = "resembles"', "says"),
        ('by = "formula"', 'by = "hearsay"', "by"),
        ('measures = "ways"', 'measures = "ways", role = "beside"', "role is test"),
        ("using = {", "nonsense = 1, using = {", "nonsense"),
        ("statement = {", "#", "statement must be given"),
        ('type = "arithmetic"', 'type = "arithmetic"\nreason = "no"', "reason must be given if, and only if"),
    ],
)
def test_what_is_wrong_with_a_row_is_one_sentence_that_names_it(old: str, new: str, said: str) -> None:
    with pytest.raises(ConfigError, match=r"^claim A1: ") as error:
        parsed(old, new)
    assert said in str(error.value)


def test_a_row_is_read() -> None:
    one = parsed()
    assert (one.document, one.testable, one.correction) == ("A", True, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[claim", "must be TOML"),
        ("correction = []\n" + ROW + ROW[ROW.index("[[claim]]") :], "claim (A1) must stand once"),
        ("correction = []\nmore = 1\n" + ROW, "more"),
        (
            '[[correction]]\nnumber = 1\ntitle = "x"\nsays = "y"\n' + ROW,
            "must be those that claims are flagged with",
        ),
    ],
)
def test_the_file_as_a_whole_is_checked(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        spec.read(text)
    assert said in str(error.value)


def test_every_source_names_what_was_read() -> None:
    published = [one for claim in spec.claims().values() for one in claim.how if one.by == "published"]
    named = re.compile(r"arXiv:\d{4}\.\d{5}|github:[\w.-]+/[\w.-]+|DeepSeek-V4 report")
    assert len(published) > 40
    assert all(named.search(one.source) for one in published)
    assert {one.grade for one in published} <= set(get_args(spec.Grade))
