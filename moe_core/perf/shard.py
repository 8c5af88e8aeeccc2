"""One model over several devices: what the fullest device holds.

`tensor` splits attention, feed-forward, embedding and head; `expert` gives each device whole experts.
Devices = the larger of the two, which must be a multiple of the smaller. With expert > tensor the
attention is replicated over expert / tensor groups, each serving its share of the batch (DeepSeek-V3,
arXiv 2412.19437, section 3.4); with tensor > expert each expert is sliced tensor / expert ways.

Replicated: norms, router, indexer, latent projections and latent cache of MLA. KV heads cannot
be split below one: more devices than KV heads hold copies (Megatron, vLLM).
"""

from __future__ import annotations

from math import ceil

from moe_core.errors import InfeasibleError
from moe_core.perf.cache import Cache
from moe_core.perf.memory import Inner, Model, Workload
from moe_core.perf.params import Breakdown, count
from moe_core.specs import GQA, Devices, Spec


class Parallel(Spec):
    """How many ways tensors and experts are split."""

    tensor: Devices = 1
    expert: Devices = 1

    @property
    def devices(self) -> int:
        return max(self.tensor, self.expert)

    @property
    def groups(self) -> int:
        """Groups of devices that serve different sequences."""
        return self.devices // self.tensor


def shard(subject: Model, parallel: Parallel) -> Model:
    """What the fullest device holds. Raises InfeasibleError where `subject` cannot be split so."""
    _check(subject, parallel)
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
    )
    parameters = whole._replace(total=held.total, breakdown=held)
    return subject._replace(
        parameters=parameters, cache=_cache(subject.cache, ways), inner=_inner(subject.inner, ways)
    )


def share(workload: Workload, parallel: Parallel) -> Workload:
    """The sequences that the busiest device serves."""
    return workload.model_copy(update={"batch": ceil(workload.batch / parallel.groups)})


def _check(subject: Model, parallel: Parallel) -> None:
    small, large = sorted((parallel.tensor, parallel.expert))
    if large % small:
        raise InfeasibleError(
            f"tensor ({parallel.tensor}) and expert ({parallel.expert}) must divide each other"
        )
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
    return count(arch.model_copy(update={"attention": spec.model_copy(update=own)})).breakdown.attention


def _experts(subject: Model, parallel: Parallel) -> int:
    whole, arch = subject.parameters.breakdown.experts, subject.architecture
    if arch is None or arch.experts is None:
        return ceil(whole / parallel.devices)
    held = ceil(arch.experts.count / parallel.expert)
    slices = parallel.devices // parallel.expert
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
