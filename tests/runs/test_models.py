"""Models of a run: shipped ones shared, mixtures checked before they are made, dtypes cast without harm."""

import pytest
import torch

from moe_core.errors import ConfigError
from moe_core.nn.experts import KERNELS
from moe_core.nn.model import Decoder
from moe_core.nn.moe import MoE
from moe_core.perf.params import count
from moe_core.runs import models
from moe_core.specs import GQA, Architecture, Experts, Router, RunSpec

CPU = torch.device("cpu")


@pytest.mark.parametrize(("field", "value"), [("experts", 32), ("shared", 0)])
def test_the_trained_mixture_is_what_it_is(field: str, value: int):
    with pytest.raises(ConfigError, match=rf"{field} \({value}\): the trained mixture has"):
        models.mixture_architecture(RunSpec(model="trained", **{field: value}))  # type: ignore[arg-type]


@pytest.mark.parametrize("model", ["carved", "trained"])
def test_the_mixture_is_what_was_announced(model: str):
    spec = RunSpec(model=model, top_k=2)  # type: ignore[arg-type]
    announced = models.mixture_architecture(spec)
    built = models.mixture(spec, CPU, torch.bfloat16)
    assert built.arch.experts == announced.experts
    assert announced.experts is not None
    assert announced.experts.top_k == 2
    assert sum(p.numel() for p in built.parameters()) == count(announced).total
    assert {p.dtype for p in built.parameters()} == {torch.bfloat16}


def test_the_trained_mixture_with_another_k_leaves_the_shared_one_alone():
    models.mixture(RunSpec(model="trained", top_k=2), CPU, torch.float32)
    shipped = models.shipped(models.TRAINED, CPU, torch.float32)
    assert shipped.arch.experts is not None
    assert shipped.arch.experts.top_k == shipped.blocks[0].ffn.spec.top_k == 4  # type: ignore[union-attr]


def test_an_unknown_kernel_is_named():
    spec = RunSpec().model_copy(update={"kernel": "warp"})
    with pytest.raises(ConfigError, match=r"kernel \(warp\) must be one of .*loop"):
        models.kernel_for(spec, models.mixture_architecture(spec), CPU, torch.float32, 8)


def test_auto_is_resolved_as_the_layer_itself_would(monkeypatch: pytest.MonkeyPatch):
    spec = RunSpec(experts=4, top_k=2)
    told = models.kernel_for(spec, models.mixture_architecture(spec), CPU, torch.float32, tokens=16)
    used: list[str] = []
    for name, kernel in KERNELS.items():
        spy = lambda *args, _name=name, _kernel=kernel: (used.append(_name), _kernel(*args))[1]  # noqa: E731
        monkeypatch.setitem(KERNELS, name, spy)
    model = models.mixture(spec, CPU, torch.float32)
    with torch.inference_mode():
        model(torch.zeros(1, 16, dtype=torch.int64))
    assert set(used) == {"auto", told}


def test_a_kernel_asked_for_is_used_in_every_layer():
    model = models.mixture(RunSpec(experts=4, top_k=1, kernel="loop"), CPU, torch.float32)
    assert {m.kernel for m in model.modules() if isinstance(m, MoE)} == {"loop"}


def test_a_cast_spares_buffers():
    arch = Architecture(
        hidden=16,
        layers=1,
        vocab=64,
        attention=GQA(heads=2, kv_heads=1, head_dim=8),
        experts=Experts(count=4, top_k=2, width=8, router=Router(kind="sigmoid", selection_bias=True)),
    )
    model = models.cast(Decoder(arch), torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert {b.dtype for b in model.buffers()} == {torch.float32}
