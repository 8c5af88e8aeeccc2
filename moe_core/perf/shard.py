"""One model over several devices: what the fullest device holds.

`tensor` splits attention, feed-forward, embedding and head; `expert` gives each device whole experts.
Devices of a stage = the larger of the two, which must be a multiple of the smaller. With expert > tensor the
attention is replicated over expert / tensor groups, each serving its share of the batch (DeepSeek-V3,
arXiv 2412.19437, section 3.4); with tensor > expert each expert is sliced tensor / expert ways.

Replicated: norms, router, indexer, vision and audio towers, latent projections and latent cache of MLA. KV
heads cannot be split below one: more devices than KV heads hold copies (Megatron, vLLM).
"""

from __future__ import annotations

from math import ceil

from moe_core.errors import InfeasibleError
from moe_core.perf.cache import Cache
from moe_core.perf.memory import Inner, Model, Workload
from moe_core.perf.params import Breakdown, count
from moe_core.specs import GQA, Size, Spec


class Parallel(Spec):
    """How many ways tensors and experts are split, and how many stages the layers are dealt to."""

    tensor: Size = 1
    expert: Size = 1
    pipeline: Size = 1

    @property
    def devices(self) -> int:
        return self.stage * self.pipeline

    @property
    def stage(self) -> int:
        """Devices of one pipeline stage."""
        return max(self.tensor, self.expert)

    @property
    def groups(self) -> int:
        """Groups of devices that serve different sequences."""
        return self.stage // self.tensor


def shard(subject: Model, parallel: Parallel) -> Model:
    """What the fullest device holds. Raises InfeasibleError where `subject` cannot be split so."""
    _check(subject, parallel)
    if parallel.pipeline > 1:
        return shard(_stage(subject, parallel.pipeline), parallel.model_copy(update={"pipeline": 1}))
    whole, ways = subject.parameters, parallel.tensor
    parts = whole.breakdown
    held = Breakdown(
        embedding=ceil(parts.embedding / ways),
        head=ceil(parts.head / ways),
        attention=_attention(subject, ways),
        ffn=ceil(parts.ffn / ways),
        experts=_experts(subject, parallel),
        shared=ceil(parts.shared / ways),
        router=parts.router,
        norms=parts.norms,
        mixer=ceil(parts.mixer / ways),
        other=parts.other,
        tower=parts.tower,
    )
    parameters = whole._replace(total=held.total, breakdown=held)
    return subject._replace(
        parameters=parameters, cache=_cache(subject.cache, ways), inner=_inner(subject.inner, ways)
    )


def _stage(subject: Model, stages: int) -> Model:
    """The fullest stage: the most layers, and the larger of embedding and head, which lie at the ends."""
    part = ceil(subject.layers / stages) / subject.layers
    whole = subject.parameters.breakdown
    layers = {name: ceil(size * part) for name, size in whole._asdict().items()}
    ends = {"embedding": whole.embedding, "head": 0} if whole.embedding >= whole.head else {"embedding": 0}
    held = Breakdown(**{**layers, "head": whole.head, "tower": whole.tower, **ends})
    kept = {name: getattr(subject.cache, name) * part for name in _GROWING}
    return subject._replace(
        parameters=subject.parameters._replace(total=held.total, breakdown=held),
        cache=subject.cache.model_copy(update=kept),
    )


_GROWING = ("per_token", "windowed", "index", "state", "convolution")


def share(workload: Workload, parallel: Parallel) -> Workload:
    """The sequences that the busiest device serves."""
    return workload.model_copy(update={"batch": ceil(workload.batch / parallel.groups)})


def _check(subject: Model, parallel: Parallel) -> None:
    small, large = sorted((parallel.tensor, parallel.expert))
    if large % small:
        raise InfeasibleError(
            f"tensor ({parallel.tensor}) and expert ({parallel.expert}) must divide each other"
        )
    if parallel.pipeline > subject.layers:
        raise InfeasibleError(f"{subject.layers} layers cannot be dealt to {parallel.pipeline} stages")
    arch = subject.architecture
    if arch is None:
        return
    if arch.attention.heads % parallel.tensor:
        raise InfeasibleError(f"{arch.attention.heads} heads cannot be split {parallel.tensor} ways")
    experts = arch.experts.count if arch.experts else 1
    if parallel.expert > experts:
        raise InfeasibleError(f"{experts} experts cannot be split over {parallel.expert} devices")


def _attention(subject: Model, ways: int) -> int:
    """Attention of the fullest device: its own heads, at least one KV head, every latent projection."""
    arch, whole = subject.architecture, subject.parameters.breakdown.attention
    if arch is None:
        return ceil(whole / ways)
    spec = arch.attention
    own = {"heads": spec.heads // ways}
    if isinstance(spec, GQA):
        own["kv_heads"] = ceil(spec.kv_heads / ways)
    all_layers = count(arch).breakdown.attention
    split = count(arch.model_copy(update={"attention": spec.model_copy(update=own)})).breakdown.attention
    return ceil(split * whole / all_layers)  # of a stage: its part of the layers


def _experts(subject: Model, parallel: Parallel) -> int:
    whole, arch = subject.parameters.breakdown.experts, subject.architecture
    if arch is None or arch.experts is None:
        return ceil(whole / parallel.stage)
    held = ceil(arch.experts.count / parallel.expert)
    slices = parallel.stage // parallel.expert
    return ceil(whole * held / arch.experts.count / slices)


def _cache(kept: Cache, ways: int) -> Cache:
    """Keys and values per device: whole KV heads, at least one; a latent is not split; states are."""
    factor = 1.0 if kept.heads is None else ceil(kept.heads / ways) / kept.heads
    return kept.model_copy(
        update={
            "per_token": kept.per_token * factor,
            "windowed": kept.windowed * factor,
            "state": kept.state / ways,
            "convolution": kept.convolution / ways,
        }
    )


def _inner(shape: Inner, ways: int) -> Inner:
    """The residual stream is whole on every device; what is inside a layer is split."""
    return Inner(
        shape.stream,
        ceil(shape.attention / ways),
        ceil(shape.feed_forward / ways),
        ceil(shape.logits / ways),
    )
