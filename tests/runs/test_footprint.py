"""Memory by component: what is predicted for weights and cache is what gets allocated, to the byte."""

import pytest
import torch

from moe_core.nn.model import Decoder, initialise
from moe_core.runs import footprint, models
from moe_core.runs.footprint import Shape
from moe_core.runs.timing import TimedWork
from moe_core.specs import GQA, Architecture, Experts

COMMON = {
    "hidden": 32,
    "layers": 3,
    "vocab": 64,
    "attention": GQA(heads=4, kv_heads=2, head_dim=8),
    "max_positions": 64,
}
ARCHITECTURES = {
    "dense": Architecture(ffn_width=48, tied=True, **COMMON),
    "untied": Architecture(ffn_width=48, gated=False, **COMMON),
    "mixture": Architecture(
        ffn_width=48,
        experts=Experts(count=4, top_k=2, width=12, shared=1, shared_gate=True),
        first_dense=1,
        tied=True,
        **COMMON,
    ),
}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def measured(arch: Architecture, form: str) -> dict[str, int]:
    model = Decoder(arch).eval()
    initialise(model, 0)
    ids_BS = torch.zeros(2, 16, dtype=torch.int64)
    return footprint.measure(models.cast(model, DTYPES[form]), TimedWork(ids_BS, ids_BS[:, :4], 16))


@pytest.mark.parametrize("form", DTYPES)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_weights_and_cache_are_predicted_to_the_byte(name: str, form: str):
    arch = ARCHITECTURES[name]
    predicted = footprint.predict(arch, Shape(2, 16, 20), form)  # type: ignore[arg-type]
    seen = measured(arch, form)
    for part in footprint.COMPONENTS:
        if part != "activations":
            assert predicted[part] == seen.get(part, 0), part


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_activations_are_of_the_predicted_size(name: str):
    arch = ARCHITECTURES[name]
    predicted = footprint.predict(arch, Shape(2, 16, 20), "fp32")["activations"]
    assert predicted / 2 < measured(arch, "fp32")["activations"] < predicted * 2.5


def test_a_second_pass_costs_what_the_first_did():
    """Live tensors, not pages an allocator kept."""
    assert measured(ARCHITECTURES["mixture"], "bf16") == measured(ARCHITECTURES["mixture"], "bf16")


def test_the_table_leaves_out_what_a_model_does_not_have_and_ends_with_the_sum():
    predicted = {"dense": footprint.predict(ARCHITECTURES["dense"], Shape(2, 16, 20), "fp32")}
    table = footprint.columns(predicted, {"dense": measured(ARCHITECTURES["dense"], "fp32")})
    assert not {"experts", "shared", "router"} & set(table["component"])
    assert table["component"][-1] == "total"
    for column in ("predicted_bytes", "measured_bytes"):
        assert table[column][-1] == sum(table[column][:-1])
