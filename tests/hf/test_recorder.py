"""Recorder: what is recorded is what the model chose, for every family, with padding, cache and skips."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn

from moe_core import record
from moe_core.errors import ConfigError
from moe_core.hf.recorder import SITES, Recording
from moe_core.hf.sites import NONE, indexed
from tests.hf import tiny

pytestmark = pytest.mark.slow  # importing transformers takes seconds

IDS = torch.randint(3, 130, (2, 6), generator=torch.Generator().manual_seed(1))
MASK = torch.tensor([[0, 0, 1, 1, 1, 1], [1] * 6])  # the first sequence is padded on the left
TOKENS = [0] * 4 + [1] * 6  # sequences of the real tokens of the prompt, in their order


def prompt_and_step(model: nn.Module) -> None:
    """A padded batch, then one cached step of each sequence."""
    with torch.no_grad():
        first = model(input_ids=IDS, attention_mask=MASK, use_cache=True)
        longer = torch.cat([MASK, torch.ones(2, 1, dtype=MASK.dtype)], 1)
        model(
            input_ids=IDS[:, :1], attention_mask=longer, past_key_values=first.past_key_values, use_cache=True
        )


@contextmanager
def spied(kind: type[nn.Module], monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Any, ...]]]:
    """(module, arguments) of every call of a class, from inside its forward: independent of hooks."""
    seen: list[tuple[Any, ...]] = []
    forward = kind.forward

    def watching(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        seen.append((self, *args, *kwargs.values()))
        return forward(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(kind, "forward", watching)
        yield seen


def frame(recording: Recording) -> pd.DataFrame:
    return recording.table().to_pandas()


def rows(of: pd.DataFrame, site: dict[str, Any]) -> pd.DataFrame:
    return of[(of["part"] == site["part"]) & (of["layer"] == site["layer"])]


def real(value_BSX: Tensor) -> np.ndarray:
    """Of the prompt: what stands at tokens, flattened."""
    return value_BSX.reshape(12, -1)[MASK.bool().flatten()].flatten().numpy()


@pytest.mark.parametrize("kind", sorted(set(tiny.FAMILIES) - {"llama4_text", "jetmoe", "doge"}))
def test_what_is_recorded_is_what_the_experts_were_given(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.model(kind)
    with record(model) as recording:
        site = recording.sites[-1]
        with spied(type(site.module), monkeypatch) as seen:
            prompt_and_step(model)
    told, of = frame(recording), recording.described()
    assert len(of) == len(told.groupby(["part", "layer"])) > 0
    for one, described in zip(recording.sites, of, strict=True):
        mine = rows(told, described)
        (_, _, chosen, weights), (_, _, next_chosen, _) = (call for call in seen if call[0] is one.module)
        top_k = chosen.shape[-1]
        prompt = mine[mine["position"] < mine["sequence"].map({0: 4, 1: 6})]
        expected = real(chosen)
        if kind == "zaya":  # expert 0 with weight 0 is no expert
            expected = np.where(real(weights) == 0, NONE, expected)
        np.testing.assert_array_equal(prompt["expert"], expected)
        np.testing.assert_allclose(prompt["weight"], real(weights.detach().float()))
        assert prompt["sequence"].tolist() == [one for one in TOKENS for _ in range(top_k)]
        for sequence, length in ((0, 4), (1, 6)):
            places = mine[mine["sequence"] == sequence]["position"].unique()
            assert sorted(places) == list(range(length + 1))  # without padding, the step behind the prompt
        step = mine.drop(prompt.index)["expert"]
        if kind != "zaya":
            np.testing.assert_array_equal(step, next_chosen.reshape(-1))
        assert mine["expert"].max() < described["experts"] + described["idle"]


def test_there_are_families_enough() -> None:
    assert len(tiny.FAMILIES) + len(tiny.TWO_STACKS) >= 60


def test_llama4_takes_what_multiplies_the_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.model("llama4_text")
    experts = model.get_submodule("model.layers.0.feed_forward.experts")
    with record(model) as recording, spied(type(experts), monkeypatch) as seen:
        model(input_ids=IDS)
    given_ETD = next(call[1] for call in seen if call[0] is experts).view(8, 12, -1)
    chosen_TE = (given_ETD.abs().sum(-1) > 0).T
    told = rows(frame(recording), recording.described()[0])
    for token, part in enumerate(np.array_split(told["expert"].to_numpy(), 12)):
        assert set(part) == set(chosen_TE[token].nonzero().flatten().tolist())


def test_jetmoe_has_experts_of_attention_too() -> None:
    model = tiny.model("jetmoe")
    with record(model) as recording:
        logits = []
        for site in recording.sites:
            site.module.layer.register_forward_hook(lambda _, __, out: logits.append(out.float()))  # type: ignore[union-attr]
        model(input_ids=IDS)
    parts = {one["part"] for one in recording.described()}
    assert parts == {"model.layers.mlp.router", "model.layers.self_attention.experts.router"}
    told = frame(recording)
    calls = {id(out) for out in logits}
    assert len(calls) == len(recording.sites) == 8
    attention_first = [f"{layer}.{part}" for layer in range(4) for part in ("self_attention", "mlp")]
    for name, out in zip(attention_first, logits, strict=True):
        layer, part = name.split(".")
        mine = told[(told["layer"] == int(layer)) & told["part"].str.contains(part)]
        best = out.topk(2, dim=1)
        np.testing.assert_array_equal(mine["expert"], best.indices.flatten())
        np.testing.assert_allclose(mine["weight"], best.values.softmax(1).detach().flatten(), rtol=1e-6)


def test_doge_takes_the_experts_it_looks_up() -> None:
    model = tiny.model("doge")
    looked: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if name.endswith("down_embed"):
            module.register_forward_pre_hook(lambda _, args, name=name: looked.update({name: args[0]}))
    with record(model) as recording:
        model(input_ids=IDS)
    for site in recording.described():
        mine = rows(frame(recording), site)
        np.testing.assert_array_equal(mine["expert"], looked[f"{site['name']}.down_embed"].flatten())


def test_switch_records_no_expert_for_a_token_that_was_dropped() -> None:
    model = tiny.model("switch_transformers", expert_capacity=1)
    with record(model) as recording:
        model(input_ids=IDS, attention_mask=MASK, decoder_input_ids=IDS[:, :3])
    told = frame(recording)
    assert set(told["part"].str.split(".").str[0]) == {"encoder", "decoder"}
    dropped = told["expert"] == NONE
    assert 0 < dropped.mean() < 1
    assert (told["weight"][dropped] == 0).all()
    for _, mine in told[~dropped].groupby(["part", "layer", "sequence", "expert"]):
        assert len(mine) == 1  # of a sequence, one token an expert
    lengths = told.groupby([told["part"].str.split(".").str[0], "sequence"])["position"].max()
    assert lengths.to_dict() == {
        ("decoder", 0): 2,
        ("decoder", 1): 2,
        ("encoder", 0): 3,
        ("encoder", 1): 5,
    }


def test_nllb_records_the_two_that_have_room() -> None:
    model = tiny.model("nllb-moe")
    with record(model) as recording:
        model(input_ids=IDS, decoder_input_ids=IDS[:, :3])
    told = frame(recording)
    each = told.groupby(["part", "layer", "sequence", "position"])["weight"].sum()
    assert (told["slot"].max(), told["expert"].max() < 8) == (1, True)
    assert ((each <= 1 + 1e-6) & (each >= 0)).all()


def test_zaya_skips_and_longcat_has_experts_that_do_nothing() -> None:
    skipped = tiny.model("zaya")
    gate: Any = skipped.get_submodule("model.layers.0.mlp.gate")
    gate.balancing_biases.zero_()
    gate.router_mlp.out_proj.weight.data.mul_(1000)  # a small random router finds every token alike
    with record(skipped) as recording, torch.no_grad():
        logits_TE = gate(torch.randn(1, 64, 32))[0]
        assert (logits_TE.argmax(-1) == 8).any(), "this seed skips nothing"
        skipped(input_ids=torch.randint(3, 130, (8, 64), generator=torch.Generator().manual_seed(1)))
    first = rows(frame(recording), recording.described()[0])
    assert (first["expert"] == NONE).any()
    assert ((first["weight"] == 0) == (first["expert"] == NONE)).all()
    idle = tiny.model("longcat_flash", zero_expert_num=8)
    with record(idle) as recording:
        idle(input_ids=IDS)
    (one, *_) = recording.described()
    assert (one["experts"], one["idle"]) == (8, 8)
    assert frame(recording)["expert"].between(8, 15).any()


def test_generated_tokens_stand_behind_their_prompt() -> None:
    model = tiny.model("mixtral")
    with record(model) as recording:
        model.generate(
            input_ids=IDS, attention_mask=MASK, max_new_tokens=5, min_new_tokens=5, do_sample=False
        )  # type: ignore[operator]
        model(input_ids=IDS)  # a pass without anything before it: new sequences
    lengths = frame(recording).groupby("sequence")["position"].max() + 1
    assert lengths.to_dict() == {0: 4 + 4, 1: 6 + 4, 2: 6, 3: 6}  # the last token is never read


def test_nothing_stays_behind_and_nothing_changes() -> None:
    model = tiny.model("qwen3_moe")
    with torch.no_grad():
        before = model(input_ids=IDS).logits
        with record(model) as recording:
            during = model(input_ids=IDS).logits
        held = len(frame(recording))
        model(input_ids=IDS)
    assert torch.equal(before, during)
    assert len(frame(recording)) == held


def test_the_file_has_a_row_group_a_layer_and_names_its_sites(tmp_path: Path) -> None:
    model = tiny.model("deepseek_v3")
    with record(model) as recording:
        prompt_and_step(model)
    file = pq.ParquetFile(recording.write(tmp_path / "routing.parquet"))
    assert file.num_row_groups == len(recording.sites) == 3
    for group, site in enumerate(recording.described()):
        assert set(file.read_row_group(group)["layer"].to_pylist()) == {site["layer"]}
    assert json.loads(file.schema_arrow.metadata[SITES]) == recording.described()
    assert file.read().equals(recording.table())


def test_what_cannot_be_recorded_says_so() -> None:
    with (
        pytest.raises(ConfigError, match=r"model \(LlamaForCausalLM\): has no experts"),
        record(tiny.model("llama")),
    ):
        pass
    with pytest.raises(ConfigError, match="takes no experts and weights of each token"):
        indexed(nn.Identity(), (IDS, IDS), None)
    model = tiny.model("mixtral")
    with (
        record(model),
        pytest.raises(ConfigError, match=r"chooses for 5 tokens of 0: which ones cannot be told"),
    ):
        model.get_submodule("model.layers.0.mlp")(torch.zeros(1, 5, 32))
