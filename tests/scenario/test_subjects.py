"""Subjects: exact counts, what an edit does, what a URL or a config may hold."""

from __future__ import annotations

import json
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.architectures import anatomy, tables
from moe_core import registry
from moe_core.errors import ConfigError
from moe_core.hf.config import Unsupported
from moe_core.scenario import subjects
from moe_core.specs import MLA

V3 = subjects.published("DeepSeek-V3")
MIXTRAL = subjects.published("Mixtral-8x7B")
CONFIG = {
    "model_type": "mixtral",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 32000,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "tie_word_embeddings": False,
}


def test_sets_of_experts_are_exact_integers() -> None:
    assert V3.sets == 409_663_695_276_000 == comb(256, 8)
    assert V3.reachable is not None
    assert V3.reachable < V3.sets  # its router looks into four of eight groups
    assert MIXTRAL.sets == MIXTRAL.reachable == 28
    assert subjects.published("Llama-3.1-8B").sets is None


@pytest.mark.parametrize("name", registry.names())
def test_every_published_model_has_a_row_and_parts_that_add_up(name: str) -> None:
    one = subjects.published(name)
    row = tables.table([one]).iloc[0]
    assert row["total"] == registry.get(name).total
    parts = tables.parts([one])
    assert (parts["active"] >= 0).all()
    assert (parts["active"] <= parts["parameters"]).all()
    if one.architecture is not None:
        assert parts["active"].sum() == one.parameters.active.incl_embeddings
        assert parts["parameters"].sum() == one.parameters.total


def test_rumours_are_never_among_the_facts() -> None:
    assert not any("rumour" in name for name in subjects.names())
    (rumour,) = set(subjects.names(rumours=True)) - set(subjects.names())
    assert subjects.published(rumour).standing == "rumoured"
    with pytest.raises(ConfigError, match="rumour"):
        subjects.model(subjects.published(rumour))


# -- edit ------------------------------------------------------------------------------------------


def test_an_edit_that_changes_nothing_is_the_model() -> None:
    arch = V3.architecture
    assert arch is not None
    assert subjects.edited(arch, subjects.values(arch)) == arch
    assert subjects.changed(arch, subjects.values(arch), "as it is") == {}


def test_granularity_keeps_size_and_active_share_but_for_the_router() -> None:
    arch = MIXTRAL.architecture
    assert arch is not None
    fine = subjects.own(subjects.edited(arch, {"granularity": 4}), "edited")
    assert fine.routing == (32, 8, 0)
    assert fine.parameters.breakdown.experts == MIXTRAL.parameters.breakdown.experts
    assert fine.sets == comb(32, 8)


@pytest.mark.parametrize("kind", subjects.KINDS[1:])
@pytest.mark.parametrize("name", ["DeepSeek-V3", "Mixtral-8x7B", "Llama-3.1-8B"])
def test_every_kind_of_cache_can_be_had(name: str, kind: str) -> None:
    arch = subjects.published(name).architecture
    assert arch is not None
    found = subjects.edited(arch, {"heads": 64}, kind)
    assert found.attention.heads == 64
    assert isinstance(found.attention, MLA) == (kind == "mla")


def test_what_cannot_be_names_field_value_and_rule() -> None:
    arch = MIXTRAL.architecture
    assert arch is not None
    with pytest.raises(ConfigError, match=r"^top_k \(9\) must be at most experts \(8\)"):
        subjects.edited(arch, {"top_k": 9})


@given(st.text(max_size=60))
def test_changes_in_a_url_are_used_or_named(text: str) -> None:
    arch = V3.architecture
    assert arch is not None
    found, kind, problems = subjects.read_changes(text, arch)
    assert set(found) == set(subjects.values(arch))
    assert kind in subjects.KINDS
    assert all("is ignored" in problem for problem in problems)


def test_changes_survive_the_url() -> None:
    arch = V3.architecture
    assert arch is not None
    found, kind, problems = subjects.read_changes("experts:512,top_k:16,kv:mqa", arch)
    assert (found["experts"], found["top_k"], kind, problems) == (512, 16, "mqa", [])
    changes = subjects.changed(arch, found, kind)
    assert changes == {"experts": "512", "top_k": "16", "kv": "mqa"}
    for bad in ("experts:-1", "experts:1e9", "experts:9999999", "hidden", "kv:best", "<b>:1", "nothing:3"):
        assert len(subjects.read_changes(bad, arch)[2]) == 1, bad


# -- import ----------------------------------------------------------------------------------------


def test_a_config_gives_the_numbers_of_the_model() -> None:
    found = subjects.understand(CONFIG, "mine")
    assert found.parameters.total == MIXTRAL.parameters.total == 46_702_792_704
    assert (found.name, found.standing, found.routing) == ("mine", "imported", (8, 2, 0))


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[1, 2]", "must hold a JSON object"),
        ("null", "must hold a JSON object"),
        ("{}", "is an empty object"),
        ("[" * 100_000, "nested too deeply"),
        (b"\xff\xfe\x00", "is not UTF-8"),
        (b" " * 4_000_001, "at most 4,000,000"),
        (json.dumps({"hidden_size": 5}), "model_type is missing"),
        (json.dumps({"model_type": ["mixtral"]}), "model_type is missing"),
        (json.dumps({**CONFIG, "num_experts_per_tok": 9}), "must be at most experts"),
        (json.dumps({**CONFIG, "hidden_size": -4}), "whole number"),
        (json.dumps({**CONFIG, "hidden_size": "4096; rm"}), "whole number"),
        (json.dumps({**CONFIG, "vocab_size": 10**30}), "vocab"),
        (json.dumps({"model_type": "mixtral"}), "is missing"),
    ],
)
def test_junk_is_one_clear_sentence(text: str | bytes, rule: str) -> None:
    with pytest.raises(ConfigError) as error:
        subjects.understand(subjects.parse(text, "config.json"), "junk")
    assert rule in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


def test_an_unknown_family_is_unsupported_and_not_a_guess() -> None:
    with pytest.raises(Unsupported, match="has no closed form"):
        subjects.understand({**CONFIG, "model_type": "never_heard_of"}, "x")


def test_a_nested_text_config_is_read_and_said() -> None:
    found = subjects.understand({"model_type": "outer", "text_config": CONFIG}, "vision")
    assert found.parameters.total == MIXTRAL.parameters.total
    assert "the language model alone" in found.notes[0]


@pytest.mark.parametrize(
    ("config", "typed", "file", "name"),
    [
        ({"model_type": "mixtral"}, " Mine ", "config.json", "Mine"),
        ({"_name_or_path": "mistralai/Mixtral-8x7B"}, "", "config.json", "Mixtral-8x7B"),
        ({"model_type": "mixtral"}, "", "grok.json", "grok"),
        ({"model_type": "mixtral"}, "", "config.json", "mixtral"),
        ({"model_type": 7}, "", "config.json", "imported"),
        ({"_name_or_path": "a\x00b" * 40}, "", "config.json", "a ba ba ba ba ba ba ba ba ba ba ba ba..."),
    ],
)
def test_an_import_has_a_short_name(config: dict[str, object], typed: str, file: str, name: str) -> None:
    assert subjects.name_of(config, typed, file) == name


@pytest.mark.parametrize(
    ("source", "address"),
    [
        ("arXiv:2412.19437", "https://arxiv.org/abs/2412.19437"),
        ("github:a/b@9b4e9788 c/d.json (copy)", "https://github.com/a/b/blob/9b4e9788/c/d.json"),
        ("github:a/b README", "https://github.com/a/b"),
        ("javascript:alert(1)", None),
    ],
)
def test_only_known_places_are_linked(source: str, address: str | None) -> None:
    assert tables.link(source) == address


def test_the_router_is_described() -> None:
    assert V3.architecture is not None
    assert V3.architecture.experts is not None
    words = anatomy.router_words(V3.architecture.experts.router)
    assert "best 4 of 8 groups" in words
    assert "balancing bias" in words
