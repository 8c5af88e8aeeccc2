"""Links: a comparison goes into one and comes back the same; what others wrote into one is checked."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_core import registry
from moe_core.errors import ConfigError
from moe_core.formats import BITS
from moe_core.perf.precision import MIXES
from moe_core.perf.shard import Parallel
from moe_core.report import side
from moe_core.report.side import Side
from moe_core.scenario.link import parameters
from moe_core.scenario.resolved import Resolved, resolve
from moe_core.scenario.spec import Scenario, work
from moe_core.specs import Precision
from tests.report.examples import anything, case
from tests.scenarios import SCENARIOS

NAMED = ("Mixtral-8x7B", "Llama-2-70B", "DeepSeek-V3", "Qwen3-30B-A3B")


def read(sides: list[Side]) -> list[Side]:
    return side.read("http://localhost:8501/compare?" + urlencode(side.link(sides)))


def test_what_a_link_leaves_out_is_the_first_screens_and_an_older_links_what_it_was():
    plain = side.read("architecture=Qwen3-30B-A3B")[0]
    assert plain.case == resolve(Scenario())
    older = side.read("architecture=Qwen3-30B-A3B&context=2048&experts=16&top_k=4")[0]
    assert (older.case.batch, older.case.context, older.case.write) == (8, 2048, 64)
    assert older.case.architecture == plain.case.architecture  # the test model's experts were its own
    assert side.read("preset=batch")[0].case == resolve(Scenario(preset="batch", **work("batch")))


@pytest.mark.parametrize("scenario", [one for one in SCENARIOS if one.own is None])
def test_a_scenario_and_its_link_mean_the_same(scenario: Scenario):
    assert side.of(parameters(scenario)).case == resolve(scenario)


@given(
    model=st.sampled_from(NAMED),
    batch=st.integers(1, 1_000_000),
    context=st.integers(66, 1_000_000),
    precision=st.sampled_from([*MIXES.values(), Precision(default="int4", attention="fp8")]),
    kv=st.sampled_from(list(BITS)),
    ways=st.sampled_from([(1, 1), (8, 1), (1, 64), (8, 32)]),
    price=st.none() | st.floats(0.01, 1000).map(lambda x: float(f"{x:g}")),
    name=st.text(min_size=1, max_size=40),
)
@settings(max_examples=60, deadline=None)
def test_every_scenario_comes_back_from_its_link(
    model: str,
    batch: int,
    context: int,
    precision: Precision,
    kv: str,
    ways: tuple[int, int],
    price: float | None,
    name: str,
):
    asked = {
        "batch": batch,
        "context": context,
        "prompt": context - 65,
        "precision": precision,
        "kv": kv,
        "price": price,
    }
    found = case(model).model_copy(
        update={**asked, "parallel": Parallel(tensor=ways[0], expert=ways[1]), "run": None}
    )
    made = side.of_case(name, found)
    (again,) = read([made])
    assert again.case.model_copy(update={"label": found.label, "run": None, "aims": None}) == found
    assert again.name == made.name


def test_a_model_of_ones_own_travels_whole():
    arch = registry.get("Mixtral-8x7B").architecture
    assert arch is not None
    own = arch.model_copy(update={"name": "Ours", "layers": 40})
    made = side.of_case("", case("Mixtral-8x7B").model_copy(update={"architecture": own}))
    (again,) = read([made])
    assert again.case.architecture == own
    assert again.case.label == "Ours as given"


def test_an_edited_scenario_of_the_sidebar_is_the_same_in_a_link():
    edited = Scenario("Mixtral-8x7B", "H100", experts=32, top_k=8, shared=2)
    made = side.of_case("", resolve(edited))
    (again,) = side.read("?architecture=Mixtral-8x7B&experts=32&top_k=8&shared=2&edit=true&view=Load&layer=3")
    assert made.case.architecture is not None
    assert made.case.architecture.name == "Mixtral-8x7B, 32 experts, top-8, 2 shared"
    assert again.case.architecture == made.case.architecture
    assert read([again])[0].parameters == again.parameters
    assert {again.parameters[name] for name in ("experts", "top_k", "shared")} == {"32", "8", "2"}
    assert read([made])[0].case.architecture == made.case.architecture


def test_four_scenarios_in_one_link():
    sides = [side.of({"architecture": name, "batch": str(at + 1)}) for at, name in enumerate(NAMED)]
    assert [one.case for one in read(sides)] == [one.case for one in sides]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("architecture=Mixtrl", "is not known"),
        ("batch=0", "batch (0): must be a whole number, at least 1"),
        ("batch=1e9", "batch (1e9): must be a whole number"),
        ("batch=99999999", "batch"),
        ("precision=int3", "precision (int3): must be stored, a format (fp32"),
        ("preset=party", "preset (party): must be one of chat"),
        ("many=x", "many (x): must be a whole number"),
        ("traffic=-1", "traffic (-1): must be a number above zero"),
        ("architecture=Llama-3.1-8B&experts=4", "experts (4): Llama-3.1-8B has no experts"),
        ("kv=x", "kv (x): must be stored, a format (fp32"),
        ("tensor=-1", "tensor (-1)"),
        ("price=free", "price (free): must be a number above zero"),
        ("price=nan", "price (nan)"),
        ("hardware=this+machine", "must come with capacity"),
        ("hardware=abacus", "is not known"),
        ("own=AAAA", "own (AAAA)"),
        ("hello=world", "must be a link of this dashboard"),
        ("", "must be a link of this dashboard"),
        ("a=hello%3Dworld", "hello: must be one of"),
        ("x" * 60_001, "must have at most"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(query: str, says: str):
    with pytest.raises(ConfigError) as raised:
        side.read(query)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_packed_bomb_is_not_unpacked():
    import base64
    import zlib

    bomb = base64.urlsafe_b64encode(zlib.compress(b" " * 50_000_000, 9)).decode()
    with pytest.raises(ConfigError, match="at most"):
        side.unpack(bomb)


@given(text=anything)
@settings(max_examples=80, deadline=None)
def test_any_text_is_a_link_or_one_sentence(text: str):
    for query in (text, urlencode({"a": text.encode("utf-8", "replace").decode()}), "own=" + text):
        with suppress(ConfigError):
            assert side.read(query)


def test_names_tell_scenarios_apart():
    same = [side.of({"architecture": "Mixtral-8x7B", "hardware": name}) for name in ("H100", "H200")]
    assert list(side.labels(same)) == ["A Mixtral-8x7B, H100", "B Mixtral-8x7B, H200"]
    mixed = [side.of({"architecture": name}) for name in NAMED]
    assert list(side.labels(mixed)) == [f"{a} {name}" for a, name in zip("ABCD", NAMED, strict=True)]
    twins = [side.of({}), side.of({})]
    assert list(side.labels(twins)) == ["A Qwen3-30B-A3B", "B Qwen3-30B-A3B"]


def test_what_is_kept_opens_again():
    found = side.of({"architecture": "Mixtral-8x7B", "batch": "16", "tensor": "4"}).kept("why")
    assert (found.parameters["batch"], found.parameters["tensor"], found.note) == ("16", "4", "why")
    assert Resolved.of(found.resolved).parallel == Parallel(tensor=4)
