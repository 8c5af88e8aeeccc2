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
from moe_core.formats import group, kind
from moe_core.perf.cache import Cache
from moe_core.perf.memory import Inner, Model, Workload
from moe_core.perf.params import Breakdown, count
from moe_core.specs import GQA, Architecture, Devices, Precision, Spec


class Parallel(Spec):
    """How many ways tensors and experts are split, and how many stages the layers are dealt to."""

    tensor: Devices = 1
    expert: Devices = 1
    pipeline: Devices = 1

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

    @property
    def words(self) -> str:
        """`one device`, `tensor 8`, `tensor 8, expert 64`, `tensor 8, pipeline 2`."""
        parts = [f"{name} {number}" for name, number in self.model_dump().items() if number > 1]
        return ", ".join(parts) or "one device"

    def times(self, replicas: int) -> str:
        """`2 × (tensor 8)`: so many such groups in words."""
        return self.words if replicas == 1 else f"{replicas} × ({self.words})"


def shard(subject: Model, parallel: Parallel, precision: Precision = Precision()) -> Model:
    """What the fullest device holds. Raises InfeasibleError with a split that works where that is refused.

    `precision`: of the weights; engines refuse to cut through a group that shares a scale.
    """
    if rule := refused(subject, parallel, precision):
        raise InfeasibleError(f"{rule}; {_instead(subject, parallel, precision)}")
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


def refused(subject: Model, parallel: Parallel, precision: Precision = Precision()) -> str | None:
    """The rule by which engines refuse a split; None where they take it."""
    small, large = sorted((parallel.tensor, parallel.expert))
    if large % small:
        return f"tensor ({parallel.tensor}) and expert ({parallel.expert}) must divide each other"
    if parallel.pipeline > subject.layers:
        return f"{subject.layers} layers cannot be dealt to {parallel.pipeline} stages"
    arch = subject.architecture
    return None if arch is None else _heads(arch, parallel) or _groups(arch, parallel, precision)


def _heads(arch: Architecture, parallel: Parallel) -> str | None:
    """Heads and experts are dealt out whole."""
    spec, ways = arch.attention, parallel.tensor
    if spec.heads % ways:
        return f"{spec.heads} heads cannot be split {ways} ways"
    if isinstance(spec, GQA) and spec.kv_heads % ways and ways % spec.kv_heads:
        return f"{spec.kv_heads} KV heads cannot be split or copied evenly over {ways} tensor ranks"
    if parallel.expert > 1 and arch.experts is None:
        return f"a dense model has no experts to split over {parallel.expert} devices"
    experts = arch.experts.count if arch.experts else 1
    if parallel.expert > experts:
        return f"{experts} experts cannot be split over {parallel.expert} devices"
    return None


def _groups(arch: Architecture, parallel: Parallel, precision: Precision) -> str | None:
    """Widths that are cut must hold whole groups of weights that share a scale.

    vLLM refuses a width a rank that its fp8 block does not divide (`create_weights` of its fp8 method: "not
    divisible by weight quantization block_n"), and groups of 4-bit weights alike (its Marlin kernels). Blocks
    of mxfp4 are padded by the engines, so those may be cut; so would be the width of a dense twin, which is
    found by its parameters and need not be whole groups to begin with.
    """
    bank, slices = arch.experts, parallel.stage // parallel.expert
    widths = {"ffn": (arch.ffn_width, parallel.tensor)}
    if bank is not None:
        widths |= {"experts": (bank.width, slices), "shared": (bank.shared_total_width, parallel.tensor)}
    for name, (width, ways) in widths.items():
        form = precision.of(name)
        many = None if kind(form) == "mxfp4" else group(form)
        twin = bank is None and many is not None and width % many
        if ways == 1 or not many or twin or width % (ways * many) == 0:
            continue
        leaves = f"{_NAMES[name]} width {width:,} over {ways} tensor ranks leaves {width / ways:,g}"
        return f"{leaves}, not a multiple of the {form} group ({many})"
    return None


_NAMES = {"ffn": "feed-forward", "experts": "expert", "shared": "shared expert"}


def _instead(subject: Model, parallel: Parallel, precision: Precision) -> str:
    """Splits near a refused one that are not: fewer ways of one kind, or whole experts on each device."""

    def works(**said: int) -> bool:
        return refused(subject, parallel.model_copy(update=said), precision) is None

    arch = subject.architecture
    most = {"tensor": arch.attention.heads if arch else parallel.tensor, "pipeline": subject.layers}
    most["expert"] = arch.experts.count if arch and arch.experts else 1
    found = []
    for name in ("tensor", "expert", "pipeline"):
        fewer = range(min(getattr(parallel, name) - 1, most[name]), 0, -1)
        found += [f"{name} {ways}" for ways in fewer if works(**{name: ways})][:1]
    if parallel.expert < parallel.stage and works(expert=parallel.stage):
        found.append(f"expert {parallel.stage}, which gives each device whole experts")
    both = (n for n in range(min(parallel.stage, most["tensor"]), 1, -1) if works(tensor=n, expert=n))
    found = found or [f"tensor {n}, expert {n}" for n in both][:1] or ["one device"]
    return f"{found[0]} works{''.join(', or ' + one for one in found[1:])}"


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
