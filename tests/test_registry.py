"""The registry: every record sound, every name found, rumours apart."""

import json
import lzma
import subprocess
import sys

import pytest

from moe_core import registry
from moe_core.errors import ConfigError
from moe_core.hf.config import Unsupported, architecture
from moe_core.hf.modules import matrices
from moe_core.hf.quantisation import published
from moe_core.perf.memory import Workload, footprint
from moe_core.perf.params import count
from moe_core.settings import ROOT

RECORDS = registry.records()


def test_seventy_one_models_and_one_rumour() -> None:
    assert len(RECORDS) == 71
    assert sum(record.kind == "moe" for record in RECORDS) == 43
    assert sum(record.verified.exact for record in RECORDS) == 64
    assert [record.name for record in registry.rumours()] == ["GPT-4 (rumoured)"]
    assert not {record.name for record in registry.rumours()} & set(registry.names())


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_a_record_is_sound(record: registry.Record) -> None:
    assert record.sources
    assert all(record.sources)
    assert record.published.source
    assert sum(record.breakdown.values()) == record.total
    counted = registry.parameters(record)
    assert (counted.total, counted.active._asdict()) == (record.total, record.active)
    assert counted.total == sum(counted.breakdown)
    assert {k: v for k, v in counted.breakdown._asdict().items() if v} == record.breakdown
    assert (record.routing is not None) == (record.kind == "moe")
    assert (record.architecture is None) == (record.shape is not None)


@pytest.mark.parametrize("record", [r for r in RECORDS if r.config], ids=lambda record: record.name)
def test_architecture_and_config_say_the_same(record: registry.Record) -> None:
    try:
        found = architecture(record.config, record.name)
    except Unsupported:
        assert record.architecture is None
        return
    assert record.architecture is not None
    assert count(found) == count(record.architecture)
    assert found.attention == record.architecture.attention
    assert found.experts == record.architecture.experts


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_every_model_can_be_sized(record: registry.Record) -> None:
    need = footprint(registry.model(record), Workload())
    assert need.weights_total == 2 * record.total
    assert need.kv_cache > 0


def test_methods_say_which_count_is_shown() -> None:
    methods = {record.name: record.method for record in RECORDS}
    assert methods["Mixtral-8x7B"] == methods["Qwen3-Next-80B-A3B"] == "closed_form"
    assert methods["Jamba-1.5-Large"] == "meta"
    assert methods["MiniMax-M1"] == "record"


def test_routing_facts_are_those_of_the_architecture() -> None:
    for record in RECORDS:
        if record.architecture is None or record.architecture.experts is None:
            continue
        bank, fact = record.architecture.experts, record.routing
        assert fact is not None
        assert (bank.count, bank.top_k, bank.width) == (fact.experts, fact.top_k, fact.expert_width)
        assert len(record.architecture.moe_layers) == fact.moe_layers


@pytest.mark.parametrize(
    "spelling",
    [
        "Mixtral-8x7B",
        "mixtral-8x7b",
        "MIXTRAL_8X7B",
        "mixtral 8x7b",
        "Mixtral8x7B",
        "mistralai/Mixtral-8x7B-v0.1",
    ],
)
def test_any_spelling_finds_the_model(spelling: str) -> None:
    assert registry.get(spelling).name == "Mixtral-8x7B"


def test_every_name_and_id_finds_its_own_record() -> None:
    for record in RECORDS:
        assert registry.get(record.name.upper()) is record
        if record.hf_id:
            assert registry.get(record.hf_id) is record


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("mixtral", "Mixtral-8x7B"),
        ("deepseek-v5", "DeepSeek-V"),
        ("qqqqqq", "none comes close"),
        ("", "none comes close"),
        ("x" * 10_000, "none comes close"),
    ],
)
def test_an_unknown_name_offers_close_ones(name: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as raised:
        registry.get(name)
    assert len(str(raised.value)) < 200


def test_a_rumour_is_found_but_cannot_be_sized() -> None:
    rumour = registry.get("gpt-4-rumoured")
    assert rumour.rumoured
    with pytest.raises(ConfigError, match="rumour"):
        registry.model(rumour)


def test_the_web_process_may_import_it() -> None:
    code = (
        "import sys, moe_core.registry, moe_core.hardware, moe_core.perf.fit, moe_core.perf.step_time, "
        "moe_core.perf.training, moe_core.perf.offload, moe_core.perf.edit, moe_core.perf.twins\n"
        "moe_core.registry.names()\n"
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'streamlit')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


PUBLISHED = json.loads(lzma.decompress((ROOT / "tests/hf/published.json.xz").read_bytes()))
SOURCED = [
    (record, key)
    for record in registry.records()
    for key in PUBLISHED
    if f"/{key}_config.json" in record.stored_source
]


def test_every_stored_format_has_its_source() -> None:
    assert all(record.stored_source for record in registry.records())
    assert all(
        record.architecture is None or record.architecture.stored == record.stored
        for record in registry.records()
    )
    assert len(SOURCED) >= 25


@pytest.mark.parametrize(("record", "key"), SOURCED, ids=[key for _, key in SOURCED])
def test_it_is_what_the_named_configuration_says(record: registry.Record, key: str) -> None:
    every = matrices(record.architecture) if record.architecture is not None else ()
    found = published(PUBLISHED[key]["config"], every)
    for part in ("embedding", "head", "attention", "ffn", "experts", "shared", "router", "norms"):
        if record.breakdown.get(part, 1):
            assert record.stored.of(part) == found.precision.of(part), part
    assert record.stored_kv == found.kv
