import json
import lzma
import struct

import pyarrow.parquet as pq
import pytest
import torch

from moe_core.errors import StoreError
from moe_core.nn import checkpoint
from moe_core.nn.observe import RoutingLog
from moe_core.settings import CORPUS, MODELS
from moe_core.specs import Experts, Router
from tests.nn.small import decoder

MIXTURE = Experts(count=4, top_k=2, width=24, router=Router(kind="sigmoid", selection_bias=True))


@pytest.mark.parametrize("experts", [None, MIXTURE], ids=["dense", "mixture"])
def test_a_model_survives_its_file(tmp_path, experts):
    model, path, ids = decoder(experts), tmp_path / "m.safetensors", torch.randint(0, 256, (2, 9))
    checkpoint.save(model, path, {"seed": 0}, dtype=torch.float32)
    with torch.no_grad():
        assert torch.equal(checkpoint.load(path)(ids), model(ids))
    assert checkpoint.read_architecture(path) == model.arch
    assert checkpoint.read_made(path) == {"seed": 0}


def test_a_selection_bias_keeps_its_precision(tmp_path):
    model, path = decoder(MIXTURE), tmp_path / "m.safetensors"
    model.feed_forwards[0].router.selection_bias_E += 0.1234567
    checkpoint.save(model, path, {})
    loaded = checkpoint.load(path, dtype=torch.bfloat16).feed_forwards[0].router.selection_bias_E
    assert torch.equal(loaded, model.feed_forwards[0].router.selection_bias_E)


def test_the_number_of_noisy_passes_survives_its_file(tmp_path):
    model, path = decoder(Experts(count=4, top_k=2, width=24, router=Router(kind="noisy"))), tmp_path / "m"
    model.feed_forwards[1].router.draws = 2049  # which bf16 would round
    checkpoint.save(model, path, {})
    assert [ffn.router.draws for ffn in checkpoint.load(path, dtype=torch.bfloat16).feed_forwards] == [
        0,
        2049,
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        b"\xff" * 64,
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 20) + b'{"__metadata__": {}}',
    ],
)
def test_a_file_that_is_not_ours_is_refused_in_one_sentence(tmp_path, content):
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"m\.safetensors"):
        checkpoint.load(path)


def test_weights_that_do_not_fit_the_header_are_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    checkpoint.save(decoder(), path, {})
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    with pytest.raises(StoreError, match="does not hold the weights"):
        checkpoint.load(path)


@pytest.mark.parametrize("name", ["scale-dense", "scale-moe"])
def test_shipped_models_are_small_and_logged(name):
    path = MODELS / f"{name}.safetensors"
    assert path.stat().st_size <= 25_000_000
    last = [json.loads(line) for line in path.with_suffix(".log").read_text().splitlines()][-1]
    assert (last["event"], last["domain"]) == ("heldout", "all")


def heldout(domain: str) -> bytes:
    frame = pq.read_table(CORPUS / f"{domain}.parquet", filters=[("split", "=", "heldout")]).to_pandas()
    return "\n".join(frame["text"]).encode()


@torch.no_grad()
def bits(model, text: bytes, windows: int = 8, length: int = 1024) -> float:
    """Bits per byte over the first `windows` windows of `text`, each starting cold."""
    ids = torch.frombuffer(bytearray(text[: windows * length + 1]), dtype=torch.uint8).long()
    usable = (len(ids) - 1) // length * length
    logits = model(ids[:usable].view(-1, length)).float().flatten(0, 1)
    return torch.nn.functional.cross_entropy(logits, ids[1 : usable + 1]).item() / 0.6931471805599453


@pytest.mark.slow
@pytest.mark.parametrize("name", ["scale-dense", "scale-moe"])
def test_shipped_models_beat_xz_in_every_domain(name):
    """Against the whole held-out text compressed at once, which helps xz and not the model."""
    model = checkpoint.load(MODELS / f"{name}.safetensors")  # fp32: fast on every processor
    ours, theirs = [], []
    for path in sorted(CORPUS.glob("*.parquet")):
        text = heldout(path.stem)
        ours.append(bits(model, text))
        theirs.append(len(lzma.compress(text, preset=9)) * 8 / len(text))
        assert ours[-1] < theirs[-1], path.stem
    assert sum(ours) < 0.8 * sum(theirs)


@pytest.mark.slow
def test_the_trained_mixture_is_balanced():
    model = checkpoint.load(MODELS / "scale-moe.safetensors")
    text = b"".join(heldout(path.stem)[:1024] for path in sorted(CORPUS.glob("*.parquet")))
    log = RoutingLog()
    with torch.no_grad():
        model(torch.frombuffer(bytearray(text), dtype=torch.uint8).long().view(-1, 1024), observer=log)
    for _, routing in log.seen:
        load_E = routing.load_E().float()
        assert load_E.min() > 0
        assert load_E.max() / load_E.mean() < 2.5
