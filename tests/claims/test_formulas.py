"""Formulas: exact numbers, and what each refuses."""

from __future__ import annotations

from math import comb, isclose

import pytest

from moe_core.claims import gates, sizes, work
from moe_core.claims.formulas import FORMULAS, check, compute
from moe_core.errors import ConfigError
from moe_core.settings import ROOT

PAGES = {path.stem for path in (ROOT / "pages").glob("*.py")}
LOGITS = [2.0, 1.0, 0.5, 0.1, -0.3, -1.0, -1.2, -2.0]


def test_sets_of_experts_are_exact() -> None:
    assert compute("sets", {"experts": 256, "top_k": 8}).value == comb(256, 8) == 409_663_695_276_000
    assert compute("sets", {"experts": 64, "top_k": 8}).value == 4_426_165_368
    grouped = {"experts": 256, "top_k": 8, "groups": 8, "top_groups": 4}
    assert compute("sets", grouped).value == 71_614_201_382_880


def test_eight_copies_of_mistral_are_mixtral_to_the_last_parameter() -> None:
    made = sizes.replicated("Mistral-7B-v0.1", 8, 2)
    assert made == sizes.total("Mixtral-8x7B") == 46_702_792_704
    assert sizes.replicated("Mistral-7B-v0.1", 8, 1, "active") == 7_242_780_672
    assert sizes.replicated("Mistral-7B-v0.1", 8, 2, "active") == sizes.active("Mixtral-8x7B")
    assert sizes.replicated_bytes("Mistral-7B-v0.1", 8, 2) == 93_405_585_408


def test_parameters_of_the_audit() -> None:
    assert sizes.total("Qwen3-235B-A22B") == 235_093_634_560
    assert sizes.an_expert("Mixtral-8x7B") == 176_160_768
    assert sizes.an_expert("DeepSeek-V3") == 44_040_192
    assert sizes.router_of_a_layer("Mixtral-8x7B") == 32_768
    assert sizes.routed_share("Mixtral-8x7B") == 0.25
    ratios = {"Mixtral-8x7B": 3.63, "Qwen3-235B-A22B": 10.6, "DeepSeek-V3": 17.9, "DeepSeek-V4-Pro": 31.6}
    for model, ratio in ratios.items():
        assert isclose(sizes.total_over_active(model), ratio, rel_tol=5e-3)
    assert sizes.active_share("DeepSeek-V3") + sizes.idle_share("DeepSeek-V3") == 1


def test_both_orders_of_the_gate_agree_and_the_mass_is_what_top_k_keeps() -> None:
    for k in range(1, 9):
        assert gates.gate_difference(LOGITS, k) < 1e-15
        assert gates.experts_run(LOGITS, k) == k
    masses = [gates.gate_mass(LOGITS, k) for k in range(1, 9)]
    assert masses == sorted(masses)
    assert isclose(masses[-1], 1)


def test_the_balance_product_is_one_when_even_n_when_collapsed_and_less_than_one_elsewhere() -> None:
    assert isclose(gates.balance_product([5, 5], [[0.6, 0.4], [0.4, 0.6]]), 1)
    assert isclose(gates.balance_product([7], [[1, 0, 0, 0]]), 4)
    assert isclose(gates.balance_product([100, 900], [[1, 0], [0.49, 0.51]]), 0.9344)


def test_ridges_and_the_exchange() -> None:
    assert isclose(work.ridge_tokens("A100 80GB"), 153.02, rel_tol=1e-3)
    assert isclose(work.ridge_tokens("H100"), 295.4, rel_tol=1e-3)
    assert isclose(work.ridge_tokens("H100", experts=256, top_k=8), 32 * work.ridge_tokens("H100"))
    assert work.growth("Qwen3-235B-A22B", 256, "exchange") == 1
    assert work.exchange_bytes("DeepSeek-V3", 3, 64) == 7168 * 8 * 3 * 63 / 64
    assert work.talks("Llama-2-70B", "reduce", 8) == 2


def test_epochs_rule_is_not_its_own_limit() -> None:
    assert isclose(work.epoch(1, 8, 8), 1.48, rel_tol=5e-3)
    assert isclose(work.epoch(1.76e12, 8, 2), 1.091e12, rel_tol=1e-3)


def test_a_predicted_ratio_has_an_interval_around_it() -> None:
    found = work.step_ratio("Mixtral-8x7B", "Llama-2-13B", "H200", 16)
    assert found.low is not None
    assert found.high is not None
    assert 1 < found.low < found.value < found.high
    same = work.step_ratio("Llama-2-13B", "Llama-2-13B", "H200", 16)
    assert same.value == 1


@pytest.mark.parametrize(
    ("name", "using", "said"),
    [
        ("nothing", {}, "formula (nothing): must be one of"),
        ("sets", {"experts": 8}, "using (experts): sets has"),
        ("sets", {"experts": 8, "top_k": 2, "colour": 1}, "using"),
        ("sets", {"experts": 8, "top_k": 9}, "top_k (9)"),
        ("total", {"model": "GPT-9"}, "model (GPT-9): is not known"),
        ("an_expert", {"model": "Llama-2-7B"}, "is dense"),
        ("part", {"model": "Llama-2-7B", "component": "soul"}, "component (soul)"),
        ("gate_mass", {"logits": [1.0], "top_k": 2}, "top_k (2)"),
        ("balance_product", {"tokens": [1], "probabilities": []}, "tokens (1)"),
        ("mixtures", {"field": "experts", "since": "2999"}, "no mixture on file"),
    ],
)
def test_what_a_formula_refuses_is_one_sentence(name: str, using: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        compute(name, using)
    assert said in str(error.value)


def test_every_formula_says_where_its_quantity_lives() -> None:
    for name, formula in FORMULAS.items():
        assert (ROOT / formula.home).exists(), name
        assert formula.compute.__doc__, name
        assert (
            not formula.page
            or formula.page == "balancing"
            or (ROOT / "pages" / f"{formula.page}.py").exists()
        )


def test_a_check_computes_nothing() -> None:
    check("total", {"model": "a model that nobody made"})
