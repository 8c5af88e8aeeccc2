"""Subjects of the layer sweep: the test model's layer on real text, and published layers at random.

Legend: T tokens, D model, F ffn, E experts, K top-k.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from itertools import cycle
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from moe_core import registry
from moe_core.device import free_memory
from moe_core.labs.bank import MOST_COLUMNS, Pool, pool_elements
from moe_core.nn.experts import KERNELS, ExpertWeights
from moe_core.nn.moe import MoE
from moe_core.nn.router import build
from moe_core.runs import admission, models, tuning
from moe_core.runs.admission import Need
from moe_core.runs.question import Question
from moe_core.specs import Architecture
from moe_core.units import MIB, quantity

REAL = ("mixtral-8x7b", "qwen3-30b-a3b", "deepseek-v3")
TOKENS = 4096
USABLE = 0.85  # of the free memory, for layers of real size
TURNS = 4  # hidden states of a real size: so many different batches


class Size(NamedTuple):
    """Dimensions of a subject, and on what it is timed."""

    name: str
    label: str
    hidden: int
    width: int
    experts: int
    top_k: int
    shared_width: int
    gated: bool
    device: torch.device
    dtype: torch.dtype
    random: bool
    working_set: int = 0  # bytes of weights taken in turn

    @classmethod
    def of(
        cls, arch: Architecture, name: str, device: torch.device, dtype: torch.dtype, random: bool
    ) -> Self:
        """The mixture layer of an architecture."""
        bank = arch.experts
        assert bank is not None, "a mixture has experts"
        return cls(
            name, arch.name, arch.hidden, bank.width, bank.count, bank.top_k, bank.shared_total_width,
            arch.gated, device, dtype, random,
        )  # fmt: skip

    @property
    def active_width(self) -> int:
        return self.top_k * self.width + self.shared_width

    @property
    def total_width(self) -> int:
        return self.experts * self.width + self.shared_width

    @property
    def widths(self) -> tuple[int, ...]:
        """Dense networks from half the active width to the total one, doubling; at scale to twice."""
        steps = math.ceil(math.log2(self.total_width / self.active_width))
        doubled = {self.active_width * 2**i for i in range(steps)} | {max(1, self.active_width // 2)}
        beyond = set() if self.random else {2 * self.total_width}
        return tuple(sorted(doubled | {self.total_width} | beyond))

    @property
    def elements(self) -> int:
        """Weights of all experts, router and shared ones aside."""
        return 3 * self.hidden * self.width * self.experts

    @property
    def need(self) -> int:
        """Bytes of its weights, routed and shared."""
        return 3 * self.hidden * self.total_width * self.dtype.itemsize

    @property
    def activations(self) -> int:
        """Bytes of activations at the most tokens, of a kernel that pads or of a dense slice."""
        routed = TOKENS * self.top_k * (4 * self.width + 4 * self.hidden)
        sliced = TOKENS * (4 * min(self.total_width, MOST_COLUMNS) + 4 * self.hidden)
        return max(routed, sliced) * self.dtype.itemsize

    def facts(self) -> dict[str, Any]:
        """What a page needs to know, as plain values."""
        names = ("name", "label", "hidden", "width", "experts", "top_k", "shared_width", "gated", "random")
        found = {name: getattr(self, name) for name in names}
        return found | {
            "active_width": self.active_width,
            "total_width": self.total_width,
            "working_set": self.working_set,
        }


class Scale:
    """The middle layer of the test model. Its inputs are what it sees of held-out text."""

    def __init__(self, layer: MoE, x_TD: Tensor, size: Size) -> None:
        count = admission.copies(_bytes(layer), size.device)
        self._turn = cycle([layer] + [copy.deepcopy(layer) for _ in range(count - 1)])
        largest = 3 * size.hidden * max(size.widths)
        elements = max(largest, count * _bytes(layer) // size.dtype.itemsize)
        self._pool = Pool.filled(elements, size.dtype, size.device)
        self._layer, self._x_TD = layer, x_TD
        self.size = size._replace(working_set=count * _bytes(layer))

    @classmethod
    def load(cls, question: Question) -> Scale:
        """Carved as asked, run once over the text."""
        size = Size.of(question.moe, "scale", question.device, question.dtype, random=False)
        model = models.mixture(question.spec, question.device, question.dtype)
        layers = [layer for layer in model.feed_forwards if isinstance(layer, MoE)]
        layer, seen = layers[len(layers) // 2], list[Tensor]()
        hook = layer.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
        try:
            with torch.inference_mode():
                model(
                    torch.from_numpy(question.sample.window_BW[:, : question.spec.seq]).to(
                        size.device, torch.int64
                    )
                )
        finally:
            hook.remove()
        return cls(layer, seen[0].reshape(-1, size.hidden).clone(), size)

    def _window(self, tokens: int, turn: int) -> Tensor:
        """Some tokens in a row, others every turn."""
        free = self._x_TD.shape[0] - tokens
        start = (turn * 389) % (free + 1)
        return self._x_TD[start : start + tokens]

    def mixture(self, kernel: str, tokens: int, turn: int) -> Callable[[], object]:
        layer, x_TD = next(self._turn), self._window(tokens, turn)
        layer.kernel = kernel
        return lambda: layer(x_TD)

    def dense(self, width: int, tokens: int) -> Callable[[], object]:
        network, x_TD = self._pool.dense(self.size.hidden, width), self._x_TD[:tokens]
        return lambda: network(x_TD)

    def hit(self, tokens: int, turn: int) -> float:
        routing = self._layer.router(self._window(tokens, turn))
        return float((routing.load_E() > 0).sum())


class Real:
    """Layers of published sizes over one pool of random weights; random inputs, a fresh router each."""

    def __init__(self, pool: Pool, device: torch.device) -> None:
        self._pool, self._device = pool, device

    @classmethod
    def filled(cls, sizes: list[Size], question: Question) -> Real:
        """A pool that holds the largest of them."""
        elements = pool_elements(_largest(sizes), question.dtype.itemsize, question.device)
        return cls(Pool.filled(elements, question.dtype, question.device), question.device)

    def of(self, size: Size) -> RealLayer:
        """One of them."""
        return RealLayer(self._pool, size._replace(working_set=self._pool.nbytes))


class RealLayer:
    """One layer of published size."""

    def __init__(self, pool: Pool, size: Size) -> None:
        self.size, self._pool = size, pool
        bank = _architecture(size.name).experts
        assert bank is not None, "a mixture has experts"
        self._router = build(bank, size.hidden).to(size.device, size.dtype)
        self._scaled, self._tuning = bank.router.kind == "sigmoid_input", tuning.known(size.device)
        generator = torch.Generator().manual_seed(0)
        self._x_TD = torch.randn(TURNS * TOKENS, size.hidden, generator=generator).to(size.device, size.dtype)

    def _window(self, tokens: int, turn: int) -> Tensor:
        start = (turn % TURNS) * TOKENS
        return self._x_TD[start : start + tokens]

    def mixture(self, kernel: str, tokens: int, turn: int) -> Callable[[], object]:
        size, x_TD = self.size, self._window(tokens, turn)
        bank = self._pool.experts(size.hidden, size.width, size.experts)
        weights = ExpertWeights(bank.gate_up_EGD, bank.down_EDF, size.gated, self._scaled, self._tuning)
        shared = self._pool.dense(size.hidden, size.shared_width) if size.shared_width else None

        def call() -> Tensor:
            y_TD = KERNELS[kernel](x_TD, self._router(x_TD), weights)
            return y_TD if shared is None else y_TD + shared(x_TD)

        return call

    def dense(self, width: int, tokens: int) -> Callable[[], object]:
        network, x_TD = self._pool.dense(self.size.hidden, width), self._x_TD[:tokens]
        return lambda: network(x_TD)

    def hit(self, tokens: int, turn: int) -> float:
        return float((self._router(self._window(tokens, turn)).load_E() > 0).sum())


def fitting(device: torch.device, dtype: torch.dtype) -> tuple[list[Size], dict[str, str]]:
    """The real sizes this device has memory for, and one sentence for each that it has not."""
    free, fit, missing = int(USABLE * free_memory(device)), [], dict[str, str]()
    for name in REAL:
        size = Size.of(_architecture(name), name, device, dtype, random=True)
        need = size.need + size.activations + _inputs(size)
        if need <= free:
            fit.append(size)
        else:
            missing[name] = (
                f"{size.label} needs {quantity(need, 'B')} for one layer and its activations, "
                f"the device can give {quantity(free, 'B')}"
            )
    return fit, missing


def real_need(sizes: list[Size], dtype: torch.dtype) -> Need:
    """Bytes of a `real_layers` run."""
    pool = pool_elements(_largest(sizes), dtype.itemsize, sizes[0].device) * dtype.itemsize
    work = max(size.activations + _inputs(size) for size in sizes)
    return Need({"weights": pool, "activations": work}, {})


def scale_need(question: Question) -> Need:
    """Bytes of a `layer_sweep` run: what the forward pass needs, and the copies."""
    base = question.need()
    size = Size.of(question.moe, "scale", question.device, question.dtype, random=False)
    dense = 3 * size.hidden * max(size.widths) * size.dtype.itemsize
    return Need(base.device | {"copies": 2 * max(admission.ROTATED, dense) + 64 * MIB}, base.host)


def _architecture(name: str) -> Architecture:
    found = registry.get(name).architecture
    assert found is not None, f"{name} has a closed form"
    return found


def _largest(sizes: list[Size]) -> int:
    """Elements of the largest layer, shared experts included."""
    return max(3 * size.hidden * size.total_width for size in sizes) + 2**16


def _inputs(size: Size) -> int:
    return TURNS * TOKENS * size.hidden * (4 + size.dtype.itemsize)


def _bytes(layer: MoE) -> int:
    return sum(parameter.nbytes for parameter in layer.parameters())
