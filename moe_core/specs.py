"""Specs: what a model is, and what a run asks. Frozen, keyword-only, strict, validated once.

Architecture, workload, parallelism and hardware never mix in one object. Shapes:
D hidden, F expert or FFN width, E experts, K top-k. Sizes are element counts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from moe_core.errors import ConfigError
from moe_core.formats import Format

Size = Annotated[int, Field(ge=1, le=1_000_000)]
LEAST = 1e-9  # of a number above zero: what is smaller vanishes in what is computed of it
Devices = Annotated[int, Field(ge=1, le=4096)]
MOST_TOKENS = 2**24  # of a sequence: Llama-4-Scout was made for 10 * 2^20
Tokens = Annotated[int, Field(ge=1, le=MOST_TOKENS)]
RouterKind = Literal[
    "softmax",  # Mixtral, Qwen3 (renormalised); OLMoE, DeepSeek-V2 (raw)
    "softmax_selected",  # gpt-oss: softmax over the selected logits
    "sigmoid",  # DeepSeek-V3: sigmoid + selection bias + groups + scaling
    "sqrt_softplus",  # DeepSeek-V4
    "sigmoid_input",  # Llama-4: the gate multiplies the expert's input
    "noisy",  # Shazeer et al. 2017
    "switch",  # Fedus et al. 2021: top-1, capacity, drops
    "expert_choice",  # Zhou et al. 2022
    "hash",  # Roller et al. 2021
    "unit",  # carved models: top-k by fitted contribution, every weight is 1
]
Dtype = Literal["auto", "fp32", "bf16"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Lab = Literal["bench", "topk_sweep", "layer_sweep", "real_layers", "calibrate"]
Experiment = Literal[  # moe_core/labs/training, one file each
    "gates",
    "collapse",
    "auxiliary",
    "bias",
    "dense_training",
    "upcycling",
    "fine_tuning",
    "memory_reasoning",
    "expert_count",
    "distinct_experts",
    "decode_over_batch",
    "all_to_all",
    "shared_expert",
    "below_one",
    "balancing",
]
EXPERIMENTS: tuple[Experiment, ...] = get_args(Experiment)
BiasRule = Literal["sign", "proportional", "quantile"]
Kernel = Literal["auto", "loop", "grouped", "padded", "gather", "sorted", "each"]


class Spec(BaseModel):
    """Base of every spec: equal specs are equal values, unknown keys raise."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """Build from untrusted values. Raises ConfigError with field, value and rule."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise ConfigError.from_validation(error) from error

    @classmethod
    def parse_json(cls, text: str | bytes) -> Self:
        """Build from JSON text. Raises ConfigError with field, value and rule."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise ConfigError.from_validation(error) from error

    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON: the same question has the same fingerprint."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


class GQA(Spec):
    """Grouped-query attention (Ainslie et al. 2023). MHA is kv_heads = heads, MQA is kv_heads = 1."""

    kind: Literal["gqa"] = "gqa"
    heads: Size
    kv_heads: Size
    head_dim: Size
    qkv_bias: bool = False
    out_bias: bool = False
    qk_norm: bool = False
    window: Size | None = None

    @model_validator(mode="after")
    def _groups(self) -> Self:
        if self.heads % self.kv_heads:
            raise ValueError(f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})")
        return self


class MLA(Spec):
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1)."""

    kind: Literal["mla"] = "mla"
    heads: Size
    q_rank: Size | None = None
    kv_rank: Size
    nope_dim: Size
    rope_dim: Size
    v_dim: Size


Attention = Annotated[GQA | MLA, Field(discriminator="kind")]


class Router(Spec):
    """How tokens choose experts. Fields a kind does not read must keep their defaults."""

    kind: RouterKind = "softmax"
    renormalise: bool = True
    mask_first: bool = False
    bias: bool = False
    selection_bias: bool = False
    scaling: float = 1.0
    groups: Size = 1
    top_groups: Size = 1
    capacity_factor: Annotated[float, Field(gt=0, le=1_000)] | None = None

    @model_validator(mode="after")
    def _group_limit(self) -> Self:
        if self.top_groups > self.groups:
            raise ValueError(f"top_groups ({self.top_groups}) must be at most groups ({self.groups})")
        return self


class Experts(Spec):
    """A bank of `count` routed experts of `width`, `top_k` of them per token, plus shared ones."""

    count: Size
    top_k: Size
    width: Size
    shared: Annotated[int, Field(ge=0, le=1_000)] = 0
    shared_width: Size | None = None  # of one shared expert; defaults to width
    shared_gate: bool = False
    router: Router = Router()

    @model_validator(mode="after")
    def _selection(self) -> Self:
        if self.top_k > self.count:
            raise ValueError(f"top_k ({self.top_k}) must be at most experts ({self.count})")
        if self.count % self.router.groups:
            raise ValueError(
                f"experts ({self.count}) must be a multiple of router.groups ({self.router.groups})"
            )
        reachable = self.count // self.router.groups * self.router.top_groups
        if self.router.groups > 1 and self.top_k > reachable:
            raise ValueError(f"top_k ({self.top_k}) must be at most the experts in top_groups ({reachable})")
        return self

    @property
    def shared_total_width(self) -> int:
        """Width of all shared experts together: they run as one FFN."""
        return self.shared * (self.shared_width or self.width)


class Indexer(Spec):
    """The lightning indexer of DeepSeek sparse attention (DeepSeek-V3.2 report, section 2.1).

    `layers` have one of their own (None: all do); the others share it (GLM-5.2).
    """

    heads: Size
    head_dim: Size
    layers: Size | None = None


class DeltaNet(Spec):
    """Gated DeltaNet, a linear attention with a state of fixed size (Yang et al. 2024, arXiv 2412.06464)."""

    key_heads: Size
    value_heads: Size
    key_dim: Size
    value_dim: Size
    conv: Size = 4


class Extras(Spec):
    """What real families add and the bench's own decoder does not build: counted and sized, never run."""

    full_every: Size | None = None  # only every n-th layer sees all tokens: gpt-oss 2, Llama-4 4, Gemma-3 6
    delta: DeltaNet | None = None  # the other layers are this instead: Qwen3-Next, Qwen3.5
    attention_gate: bool = False  # queries carry an output gate: Qwen3-Next, Qwen3.5
    qk_norm_full: bool = False  # one norm over all heads: OLMoE, OLMo-2, MiniMax-M2
    sinks: bool = False  # one learned logit a head: gpt-oss
    indexer: Indexer | None = None  # DeepSeek-V3.2
    expert_bias: bool = False  # gpt-oss
    ffn_bias: bool = False  # GPT-2
    norms_per_layer: Annotated[int, Field(ge=1, le=8)] = 2  # Falcon-7B 1, Arctic 3, Gemma-2 4
    norm_bias: bool = False  # LayerNorm: GPT-2, Falcon
    positions: Annotated[int, Field(ge=0, le=10_000_000)] = 0  # learned position table: GPT-2
    tower: Annotated[int, Field(ge=0, le=1_000_000_000_000)] = 0  # parameters of vision and audio encoders
    trained_selection_bias: bool = False  # a parameter, where DeepSeek-V3 has a buffer: ERNIE-4.5
    mtp_layers: Annotated[int, Field(ge=0, le=64)] = 0  # multi-token prediction, outside the main model

    @model_validator(mode="after")
    def _pattern(self) -> Self:
        if self.delta is not None and self.full_every is None:
            raise ValueError(
                "full_every (None) must be set when delta is: it says which layers keep attention"
            )
        return self


class Precision(Spec):
    """The format of a model's weights, and of the components that differ from it."""

    default: Format = "bf16"
    embedding: Format | None = None
    head: Format | None = None
    attention: Format | None = None
    ffn: Format | None = None
    experts: Format | None = None
    shared: Format | None = None
    router: Format | None = None
    norms: Format | None = None
    mixer: Format | None = None
    other: Format | None = None
    tower: Format | None = None

    def of(self, component: str) -> Format:
        """The format of `component`, a field of `params.Breakdown`."""
        chosen: Format | None = getattr(self, component)
        return chosen or self.default


class Architecture(Spec):
    """A decoder-only transformer, dense or mixture. `experts=None` is dense.

    stored, stored_kv: the formats that its makers publish its weights in, and want its cache in.
    """

    name: str = "custom"
    hidden: Size
    layers: Annotated[int, Field(ge=1, le=10_000)]
    vocab: Annotated[int, Field(ge=1, le=100_000_000)]
    attention: Attention
    ffn_width: Annotated[int, Field(ge=0, le=10_000_000)] = 0  # of the dense layers
    experts: Experts | None = None
    first_dense: Annotated[int, Field(ge=0, le=10_000)] = 0
    moe_every: Size = 1
    gated: bool = True
    tied: bool = False
    norm_eps: float = 1e-5
    rope_theta: float = 10_000.0
    max_positions: Annotated[int, Field(ge=1, le=100_000_000)] = 4096
    extras: Extras = Extras()
    stored: Precision = Precision()
    stored_kv: Format = "bf16"

    @model_validator(mode="after")
    def _layout(self) -> Self:
        if self.experts is None and self.ffn_width < 1:
            raise ValueError(f"ffn_width ({self.ffn_width}) must be at least 1 in a dense model")
        if any(not self.is_moe_layer(i) for i in range(self.layers)) and self.ffn_width < 1:
            raise ValueError(f"ffn_width ({self.ffn_width}) must be at least 1 when some layers are dense")
        return self

    def is_moe_layer(self, layer: int) -> bool:
        """Whether layer `layer` (0-based) has experts: after `first_dense`, every `moe_every`-th."""
        past = layer - self.first_dense
        return self.experts is not None and past >= 0 and (past + 1) % self.moe_every == 0

    @property
    def moe_layers(self) -> tuple[int, ...]:
        """0-based indices of the layers that have experts."""
        if self.experts is None:
            return ()
        return tuple(range(self.first_dense + self.moe_every - 1, self.layers, self.moe_every))

    @property
    def full_layers(self) -> int:
        """Layers whose attention sees every token; the others have a window or a linear attention."""
        if self.extras.full_every is not None:
            return self.layers // self.extras.full_every
        return 0 if isinstance(self.attention, GQA) and self.attention.window else self.layers


Coefficient = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class Strategy(Spec):
    """How the experts of an arm are kept evenly used: a router, losses with coefficients, a bias rule."""

    router: Literal["softmax", "expert_choice", "hash"] = "softmax"
    auxiliary: Coefficient = 0.0
    sequence: Coefficient = 0.0
    z: Coefficient = 0.0
    rule: BiasRule | None = None
    rate: Coefficient = 0.0

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.router == "hash" and (self.auxiliary or self.sequence or self.z):
            raise ValueError("router (hash) must come without losses: it learns nothing that they could move")
        if self.router != "softmax" and self.rule is not None:
            raise ValueError(f"rule ({self.rule}) must be for router softmax: {self.router} has no bias")
        moves = self.rule in ("sign", "proportional")
        if moves != (self.rate > 0):
            must = "above 0" if moves else "0"
            raise ValueError(f"rate ({self.rate:g}) must be {must} with rule {self.rule or 'none'}")
        return self


class Training(Spec):
    """How an experiment is run. `seeds` None: as many as its setting has.

    strategies: the arms of lab "balancing", which has none of its own.
    """

    setting: Literal["quick", "full"] = "quick"
    seeds: Annotated[int, Field(ge=1, le=10)] | None = None
    strategies: Annotated[tuple[Strategy, ...], Field(max_length=6)] = ()


class RunSpec(Spec):
    """One question to the live bench. The test model, carved and run for real.

    `lab` "bench" records routing, timings, memory and quality; "topk_sweep" records quality
    against k; "layer_sweep" times one layer over tokens, "real_layers" published layers with random
    weights; "calibrate" measures the device. The last two read no more than device, dtype and limit.
    `text` is the user's own text; None reads the held-out corpus, all domains in turn.
    `training` belongs to the experiments, which have settings instead of batch, seq and kernel.
    """

    lab: Lab | Experiment = "bench"
    model: Literal["carved", "grid", "trained"] = "carved"
    experts: Annotated[int, Field(ge=1, le=128)] = 16
    top_k: Annotated[int, Field(ge=1, le=128)] = 4
    shared: Annotated[int, Field(ge=0, le=8)] = 1
    batch: Annotated[int, Field(ge=1, le=256)] = 8
    seq: Annotated[int, Field(ge=16, le=1024)] = 256
    decode_steps: Annotated[int, Field(ge=1, le=256)] = 8
    text: Annotated[str, Field(min_length=1, max_length=200_000)] | None = None
    dtype: Dtype = "auto"
    device: Device = "auto"
    kernel: Kernel = "auto"
    repeats: Annotated[int, Field(ge=3, le=100)] = 5
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    time_limit_s: Annotated[float, Field(gt=0, le=20_000)] = 120.0
    training: Training | None = None

    @model_validator(mode="after")
    def _selection(self) -> Self:
        if self.top_k > self.experts:
            raise ValueError(f"top_k ({self.top_k}) must be at most experts ({self.experts})")
        if (self.training is not None) != (self.lab in EXPERIMENTS):
            must = "must be set" if self.training is None else "must not be set"
            raise ValueError(f"training {must} for lab {self.lab}")
        return self

    @model_serializer(mode="wrap")
    def _as_ever(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What is no experiment is written as it was before there were any: it keeps its identity."""
        values: dict[str, Any] = write(self)
        return {name: value for name, value in values.items() if name != "training" or value is not None}
