"""Traced: what a model that was served elsewhere chose becomes a run.

Choices come in any order and may be more than memory holds. They are set aside by layer as they come; then
one layer after the other is sorted, checked, counted and written. No torch here: the web process takes traces
in.

Legend: N choices of a layer, T tokens, L layers, E experts, M domains.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from moe_core.errors import ConfigError
from moe_core.hf.traces.shape import Trace
from moe_core.runs import bundle
from moe_core.runs.layout import TABLES, BundleManifest
from moe_core.specs import Architecture, Spec
from moe_core.version import ID_LENGTH, __version__, code_version, commit

LAB = "trace"
UNNAMED = "all"  # the domain of choices that name none
MOST_EXPERTS = 2**14  # of a layer, zero experts included
_ROWS = pa.schema(  # set aside for a layer
    [
        *(pa.field("sequence", pa.int32()), pa.field("position", pa.int32()), pa.field("slot", pa.int16())),
        *(pa.field("expert", pa.int16()), pa.field("weight", pa.float32()), pa.field("token_id", pa.int32())),
        pa.field("domain", pa.int16()),
    ]
)
Progress = Callable[[str, float], None]


class Told(Spec):
    """What is said of a trace beside its choices.

    title    what it is called in lists.   model  whose choices they are; of the registry, if it is there.
    experts  routed experts of a layer; None: as many as the highest id says, though later ones may idle.
    zero     ids from `experts` on that compute nothing.   shared  experts that every token uses beside them.
    source   where it is from, and under which licence.
    """

    title: Annotated[str, Field(min_length=1, max_length=120)]
    model: Annotated[str, Field(min_length=1, max_length=120)]
    experts: Annotated[int, Field(ge=1, le=MOST_EXPERTS)] | None = None
    zero: Annotated[int, Field(ge=0, le=MOST_EXPERTS)] = 0
    shared: Annotated[int, Field(ge=0, le=1_000)] = 0
    source: Annotated[str, Field(max_length=400)] = ""
    architecture: Architecture | None = None


def take_in(
    trace: Trace,
    told: Told,
    runs_dir: Path,
    progress: Progress | None = None,
    created: datetime | None = None,
) -> Path:
    """Publish a trace as a run under `runs_dir`. The same choices, told alike, are the same run.

    created: when it was recorded, where that is known; else now.
    Raises ConfigError for choices that cannot be, StoreError when the disk is full.
    """
    began, say = time.monotonic(), progress or (lambda stage, fraction: None)
    runs_dir.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".tmp-trace-{os.getpid()}-", dir=runs_dir) as aside:
        spilled = _spill(trace, Path(aside), say)
        tokens = _tokens(spilled)
        layers = _Writer(spilled, tokens, told, say)
        digest = hashlib.sha256(spilled.digest + told.fingerprint().encode()).hexdigest()[:ID_LENGTH]
        manifest = _manifest(trace, told, spilled, tokens, digest)
        tables = {
            "decisions": layers.decisions(),
            "tokens": tokens.table(spilled.domains),
            "requests": tokens.requests(spilled.domains),
            "banks": layers.banks(),  # what was counted while the decisions were written
            "counts": layers.counts(),
        }
        return bundle.publish(runs_dir, manifest(time.monotonic() - began, created), tables)


class _Spilled(NamedTuple):
    """Choices on disk, a file a layer."""

    folder: Path
    layers: tuple[int, ...]
    domains: tuple[str, ...]
    top_k: int
    experts: int  # the highest id, and one
    choices: int
    weighted: bool
    digest: bytes

    def read(self, layer: int) -> pa.Table:
        with pa.memory_map(str(self.folder / f"{layer}.arrow")) as file:
            return pa.ipc.open_stream(file).read_all()


def _spill(trace: Trace, folder: Path, say: Progress) -> _Spilled:
    """Set the choices aside by layer. Raises ConfigError for what no table holds."""
    digest, domains = hashlib.sha256(), dict[str, int]()
    experts = choices = top_k = 0
    weighted = True
    writers = dict[int, pa.ipc.RecordBatchStreamWriter]()
    with ExitStack() as stack:
        for batch in trace.batches:
            if not batch.num_rows:
                continue
            _digest(digest, batch)
            experts = max(experts, _highest(batch, "expert", MOST_EXPERTS) + 1)
            top_k = max(top_k, _highest(batch, "slot", 2**15) + 1)
            for name in ("layer", "sequence", "position"):
                _highest(batch, name, 2**15 if name == "layer" else 2**31)
            choices += batch.num_rows
            weighted &= batch["weight"].null_count == 0
            rows = _rows(batch, domains)
            layer_N = batch["layer"].to_numpy()
            for layer in np.unique(layer_N).tolist():
                if layer not in writers:
                    path = str(folder / f"{layer}.arrow")
                    writers[layer] = stack.enter_context(pa.ipc.new_stream(path, _ROWS))
                writers[layer].write_batch(rows.filter(pa.array(layer_N == layer)))
            say("read", choices)
    if not choices:
        raise ConfigError("trace: has no choices")
    names = tuple(sorted(domains, key=domains.__getitem__))
    layers = tuple(sorted(writers))
    return _Spilled(folder, layers, names, top_k, experts, choices, weighted, digest.digest())


def _digest(digest: hashlib._Hash, batch: pa.RecordBatch) -> None:
    for name in ("layer", "sequence", "position", "slot", "expert", "weight", "token_id"):
        digest.update(batch[name].fill_null(-1).to_numpy().tobytes())
    digest.update("\0".join(batch["domain"].unique().fill_null("").to_pylist()).encode())


def _highest(batch: pa.RecordBatch, name: str, below: int) -> int:
    extremes = pc.min_max(batch[name]).as_py()
    if extremes["min"] < 0 or extremes["max"] >= below:
        wrong = extremes["min"] if extremes["min"] < 0 else extremes["max"]
        raise ConfigError(f"trace: {name} ({wrong:,}) must be from 0 to {below - 1:,}")
    return int(extremes["max"])


def _rows(batch: pa.RecordBatch, domains: dict[str, int]) -> pa.RecordBatch:
    """A batch as `_ROWS`; its domains become numbers, new ones in the order that they come in."""
    texts = batch["domain"].fill_null(UNNAMED).dictionary_encode()
    codes = [domains.setdefault(text, len(domains)) for text in texts.dictionary.to_pylist()]
    if len(domains) > 2**15 - 1:
        raise ConfigError(f"trace: has {len(domains):,} domains, at most {2**15 - 1:,} are told apart")
    domain_N = np.array(codes, dtype=np.int16)[texts.indices.to_numpy()]
    arrays = [batch[field.name].cast(field.type) for field in _ROWS if field.name != "domain"]
    return pa.RecordBatch.from_arrays([*arrays, pa.array(domain_N)], schema=_ROWS)


class _Tokens(NamedTuple):
    """Every token that chose somewhere: (sequence, position) as one number, ascending; its domain and id.

    origin_S: what each sequence is called in the trace: its number, or domain and number as one.
    """

    origin_S: np.ndarray
    by_domain: bool
    key_T: np.ndarray
    domain_T: np.ndarray
    id_T: np.ndarray  # below zero: not known

    def table(self, domains: tuple[str, ...]) -> pa.Table:
        id_T = pa.array(self.id_T, mask=self.id_T < 0)
        nothing = pa.nulls(len(self.key_T))
        columns = {
            **{"token": np.arange(len(self.key_T)), "sequence": self.key_T >> 32},
            **{"position": self.key_T & _LOW, "byte": nothing},
            "domain": pa.array(domains).take(pa.array(self.domain_T)),
            **{"token_id": id_T, "generated": nothing},
        }
        return pa.table(columns).cast(TABLES["tokens"])

    def requests(self, domains: tuple[str, ...]) -> pa.Table:
        """What the sequences are called where they are from."""
        numbers = (self.origin_S & _LOW).tolist()
        texts = [str(number) for number in numbers]
        if self.by_domain:
            of = (self.origin_S >> 32).tolist()
            texts = [f"{domains[domain]} {text}" for domain, text in zip(of, texts, strict=True)]
        return pa.table({"sequence": np.arange(len(texts)), "request": texts}).cast(TABLES["requests"])

    def keys(self, rows: pa.Table) -> np.ndarray:
        """Of each choice: its token."""
        sequence_N = np.searchsorted(self.origin_S, _origin(rows, self.by_domain))
        return sequence_N.astype(np.int64) << 32 | rows["position"].to_numpy()


_LOW = 2**32 - 1


def _origin(rows: pa.Table, by_domain: bool) -> np.ndarray:
    sequence_N = rows["sequence"].to_numpy().astype(np.int64)
    return rows["domain"].to_numpy().astype(np.int64) << 32 | sequence_N if by_domain else sequence_N


def _tokens(spilled: _Spilled) -> _Tokens:
    """The tokens of all layers, which a layer may have skipped; the first layer that has one describes it."""
    by_domain = any(_anew(spilled.read(layer)) for layer in spilled.layers)
    origins = [np.unique(_origin(spilled.read(layer), by_domain)) for layer in spilled.layers]
    none = np.empty(0, dtype=np.int64)
    found = _Tokens(
        np.unique(np.concatenate(origins)), by_domain, none, none.astype(np.int16), none.astype(np.int32)
    )
    for layer in spilled.layers:
        rows = spilled.read(layer)
        new_U, first_U = np.unique(found.keys(rows), return_index=True)
        fresh_U = ~np.isin(new_U, found.key_T, assume_unique=True)
        if not fresh_U.any():
            continue
        key_T = np.concatenate([found.key_T, new_U[fresh_U]])
        order_T, first_U = np.argsort(key_T, kind="stable"), first_U[fresh_U]
        id_N = rows["token_id"].fill_null(-1).to_numpy()
        found = found._replace(
            key_T=key_T[order_T],
            domain_T=np.concatenate([found.domain_T, rows["domain"].to_numpy()[first_U]])[order_T],
            id_T=np.concatenate([found.id_T, id_N[first_U]])[order_T],
        )
    return found


def _anew(rows: pa.Table) -> bool:
    """Whether each domain counts its sequences anew: a token has one domain, so these would be one token."""
    sequence_N, position_N = (rows[name].to_numpy().astype(np.int64) for name in ("sequence", "position"))
    key_N, domain_N = sequence_N << 32 | position_N, rows["domain"].to_numpy()
    if domain_N.min() == domain_N.max():
        return False
    _, first_U, token_N = np.unique(key_N, return_index=True, return_inverse=True)
    return bool((domain_N[first_U][token_N] != domain_N).any())


class _Writer:
    """The layers, one after the other: sorted and written, and counted on the way."""

    def __init__(self, spilled: _Spilled, tokens: _Tokens, told: Told, say: Progress) -> None:
        self._spilled, self._tokens, self._say = spilled, tokens, say
        self._experts = told.experts or spilled.experts
        self._zero, self._shared = told.zero, told.shared
        if spilled.experts > self._experts + self._zero:
            besides = f" and {self._zero:,} that compute nothing" if self._zero else ""
            raise ConfigError(
                f"trace: names expert {spilled.experts - 1:,}, the model has {self._experts:,}{besides}; "
                "are they physical ids?"
            )
        self._banks = dict[str, list[int]](layer=[], experts=[], zero=[], shared=[], top_k=[])
        self._counts: list[pa.Table] = []

    def decisions(self) -> Iterator[pa.Table]:
        for number, layer in enumerate(self._spilled.layers):
            self._say("write", number / len(self._spilled.layers))
            yield self._layer(layer)

    def banks(self) -> Iterator[pa.Table]:
        yield pa.table(self._banks).cast(TABLES["banks"])

    def counts(self) -> Iterator[pa.Table]:
        yield pa.concat_tables(self._counts)

    def _layer(self, layer: int) -> pa.Table:
        rows = self._spilled.read(layer)
        token_N = np.searchsorted(self._tokens.key_T, self._tokens.keys(rows)).astype(np.int32)
        place_N = token_N.astype(np.int64) << 16 | rows["slot"].to_numpy()
        if not (place_N[1:] > place_N[:-1]).all():
            order_N = np.argsort(place_N, kind="stable")
            rows, token_N, place_N = rows.take(pa.array(order_N)), token_N[order_N], place_N[order_N]
            self._once(place_N, layer, "fills a slot")
        expert_N = rows["expert"].to_numpy()
        self._once(np.sort(token_N.astype(np.int64) << 16 | expert_N), layer, "has an expert")
        self._count(layer, token_N, expert_N, rows["weight"])
        columns = {"layer": pa.repeat(pa.scalar(layer, pa.int16()), len(rows)), "token": token_N}
        columns |= {name: rows[name] for name in ("slot", "expert", "weight")}
        return pa.table(columns).cast(TABLES["decisions"])

    def _once(self, key_N: np.ndarray, layer: int, what: str) -> None:
        """`key_N` ascends and begins with the token's number."""
        twice = np.flatnonzero(key_N[1:] == key_N[:-1])
        if len(twice):
            key = int(self._tokens.key_T[int(key_N[twice[0]]) >> 16])
            raise ConfigError(
                f"trace: layer {layer}, sequence {key >> 32}, position {key & _LOW}: {what} twice"
            )

    def _count(self, layer: int, token_N: np.ndarray, expert_N: np.ndarray, weight: pa.ChunkedArray) -> None:
        """Pairs and weights of every expert and domain, and the experts of the layer."""
        classes, domains = self._experts + self._zero, len(self._spilled.domains)
        cell_N = self._tokens.domain_T[token_N].astype(np.int64) * classes + expert_N
        pairs_ME = np.bincount(cell_N, minlength=domains * classes)
        known = weight.null_count == 0
        weights_ME = np.bincount(cell_N, weight.to_numpy(), domains * classes) if known else None
        cells = np.flatnonzero(pairs_ME)
        columns = {
            "layer": np.full(len(cells), layer),
            "domain": pa.array(self._spilled.domains).take(pa.array(cells // classes)),
            "expert": cells % classes,
            "pairs": pairs_ME[cells],
            "weight": pa.nulls(len(cells)) if weights_ME is None else weights_ME[cells],
        }
        self._counts.append(pa.table(columns).cast(TABLES["counts"]))
        top_k = int(np.bincount(token_N).max())
        for name, value in zip(
            self._banks, (layer, self._experts, self._zero, self._shared, top_k), strict=True
        ):
            self._banks[name].append(value)


def _manifest(
    trace: Trace, told: Told, spilled: _Spilled, tokens: _Tokens, run_id: str
) -> Callable[[float, datetime | None], BundleManifest]:
    """The manifest, but for how long it took, and when."""
    experts = told.experts or spilled.experts
    asked: dict[str, Any] = {
        **{"lab": LAB, "model": told.model, "title": told.title, "dtype": "not told", "experts": experts},
        **{"top_k": spilled.top_k, "shared": told.shared, "batch": len(tokens.origin_S)},
        **{"seq": int((tokens.key_T & _LOW).max()) + 1, "seed": 0},
    }
    bank = {"count": experts, "top_k": spilled.top_k, "shared": told.shared, "zero": told.zero}
    whole: dict[str, Any] = {"name": told.model}
    if told.architecture is not None:
        whole = told.architecture.model_dump(mode="json")
    summary = {
        **{"tokens": len(tokens.key_T), "decisions": spilled.choices, "sequences": asked["batch"]},
        **{"layers": list(spilled.layers), "domains": list(spilled.domains), "format": trace.kind},
        **{"notes": list(trace.notes), "weights": spilled.weighted, "source": told.source},
        "experts_told": told.experts is not None,
    }
    return lambda seconds, created: BundleManifest(
        run_id=run_id,
        question_id=run_id,
        spec=asked,
        created=created or datetime.now(UTC),
        duration_s=seconds,
        provenance=_provenance(),
        architectures={"moe": whole | {"experts": (whole.get("experts") or {}) | bank}},
        summary=summary,
    )


def _provenance() -> dict[str, Any]:
    """Nothing ran here: which device it was is not told, and the code is what took it in."""
    return {
        **{"device": "served elsewhere", "device_kind": LAB, "device_key": LAB, "dtype": "not told"},
        **{"kernel": "not told", "threads": 0, "torch": "", "moescope": __version__},
        **{"code_version": code_version(), "commit": commit(), "seed": 0},
    }
