"""Train the two shipped byte-level language models on data/corpus.

    python data/models/train.py dense          # minutes on one GPU, hours on two CPU cores
    python data/models/train.py moe

Both read the same bytes. A model is kept when it is best on a validation slice cut from the end of
the training documents; the held-out split is read once, at the end, for the numbers in the log.

Legend: B batch, S sequence, V vocabulary.
"""

from __future__ import annotations

import argparse
import json
import lzma
import math
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from moe_core.labs.training.loop import Recipe, optimiser  # noqa: E402
from moe_core.nn import balance  # noqa: E402
from moe_core.nn.checkpoint import save_int8  # noqa: E402
from moe_core.nn.model import Decoder, initialise  # noqa: E402
from moe_core.nn.moe import MoE  # noqa: E402
from moe_core.nn.observe import RoutingLog  # noqa: E402
from moe_core.specs import GQA, Architecture, Experts, Router  # noqa: E402

HERE = Path(__file__).resolve().parent
VALIDATION_BYTES = 24_000  # a domain

_COMMON = {
    "hidden": 256,
    "layers": 8,
    "vocab": 256,
    "attention": GQA(heads=8, kv_heads=4, head_dim=32),
    "tied": True,
    "max_positions": 1024,
}
ARCHITECTURES = {
    "dense": Architecture(name="scale-dense", ffn_width=1024, **_COMMON),
    "moe": Architecture(
        name="scale-moe",
        experts=Experts(
            count=16,
            top_k=4,
            width=96,
            shared=1,
            router=Router(kind="sigmoid", renormalise=True, selection_bias=True),
        ),
        **_COMMON,
    ),
}


class Corpus:
    """Bytes of every domain: train, validation (the end of train), held-out."""

    def __init__(self, folder: Path) -> None:
        self.train: dict[str, np.ndarray] = {}
        self.validation: dict[str, np.ndarray] = {}
        self.heldout: dict[str, np.ndarray] = {}
        for path in sorted(folder.glob("*.parquet")):
            frame = pq.read_table(path).to_pandas()
            joined = {split: "\n".join(rows.text).encode() for split, rows in frame.groupby("split")}
            train = np.frombuffer(joined["train"], np.uint8)
            self.train[path.stem] = train[:-VALIDATION_BYTES]
            self.validation[path.stem] = train[-VALIDATION_BYTES:]
            self.heldout[path.stem] = np.frombuffer(joined["heldout"], np.uint8)


def batches(corpus: Corpus, batch: int, seq: int, seed: int) -> Iterator[Tensor]:
    """Endless [B, S + 1] windows, every byte of the training text equally likely."""
    flat = torch.from_numpy(np.concatenate(list(corpus.train.values())))
    generator = torch.Generator().manual_seed(seed)
    while True:
        starts_B1 = torch.randint(0, flat.numel() - seq - 1, (batch, 1), generator=generator)
        yield flat[starts_B1 + torch.arange(seq + 1)].long()


@torch.no_grad()
def bits_per_byte(model: Decoder, text: np.ndarray, seq: int, device: torch.device) -> float:
    """Mean bits per byte over `text` in windows of `seq`, every window starting cold."""
    usable = (text.size - 1) // seq * seq
    ids = torch.from_numpy(text[:usable].astype(np.int64)).view(-1, seq)
    following = torch.from_numpy(text[1 : usable + 1].astype(np.int64)).view(-1, seq)
    total = 0.0
    for ids_BS, next_BS in zip(ids.split(32), following.split(32), strict=True):
        with torch.autocast(device.type, torch.bfloat16):
            logits_BSV = model(ids_BS.to(device))
        total += F.cross_entropy(
            logits_BSV.float().flatten(0, 1), next_BS.to(device).flatten(), reduction="sum"
        ).item()
    return total / usable / math.log(2)


def add_dropout(model: Decoder, rate: float) -> None:
    """Dropout on what attention and feed-forward add to the stream; only while training."""

    def drop(module: torch.nn.Module, _: object, output: Tensor) -> Tensor:
        return F.dropout(output, rate, module.training)

    for block in model.blocks:
        block.attention.register_forward_hook(drop)
        block.ffn.register_forward_hook(drop)


def train_step(model: Decoder, ids: Tensor, args: argparse.Namespace, collect: RoutingLog | None) -> Tensor:
    """Cross-entropy in nats, plus the balance loss when there are routers."""
    device = ids.device
    with torch.autocast(device.type, torch.bfloat16):
        logits_BSV = model(ids[:, :-1], **({"observer": collect} if collect else {}))
    loss = F.cross_entropy(logits_BSV.float().flatten(0, 1), ids[:, 1:].flatten())
    if collect:
        loss = loss + args.balance * sum(balance.switch_loss(r) for _, r in collect.seen)
    return loss


def train(args: argparse.Namespace, log: Callable[..., None]) -> Decoder:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    corpus = Corpus(ROOT / "data" / "corpus")
    model = Decoder(ARCHITECTURES[args.kind])
    initialise(model, args.seed)
    model.to(device)
    add_dropout(model, args.dropout)
    recipe = Recipe(steps=args.steps, peak=args.lr, decay=args.decay)
    optimise = optimiser(model, recipe)
    source = batches(corpus, args.batch, args.seq, args.seed)
    routers = [block.ffn.router for block in model.blocks if isinstance(block.ffn, MoE)]
    update = balance.BiasUpdate(args.gamma)
    log(
        event="start",
        parameters=sum(p.numel() for p in model.parameters()),
        device=str(device),
        **settings(args),
    )
    best, kept, began = math.inf, model.state_dict(), time.monotonic()
    torch.manual_seed(args.seed)
    for step in range(args.steps):
        collect = RoutingLog() if routers else None
        loss = train_step(model.train(), next(source).to(device), args, collect)
        optimise.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimise.param_groups:
            group["lr"] = recipe.rate(step)
        optimise.step()
        for router, (_, routing) in zip(routers, collect.seen if collect else [], strict=True):
            update(router, routing.load_E())
        if (step + 1) % args.every == 0 or step + 1 == args.steps:
            model.eval()
            score = float(
                np.mean([bits_per_byte(model, t, args.seq, device) for t in corpus.validation.values()])
            )
            log(event="step", step=step + 1, loss=loss.item(), validation=score, s=time.monotonic() - began)
            if score < best:
                best, kept = score, {k: v.detach().clone() for k, v in model.state_dict().items()}
    model.load_state_dict(kept)
    report(model.eval(), corpus, args.seq, device, log)
    return model


def report(model: Decoder, corpus: Corpus, seq: int, device: torch.device, log: Callable[..., None]) -> None:
    """Held-out bits per byte beside `xz -9`, by domain and together."""
    ours = {d: bits_per_byte(model, t, seq, device) for d, t in corpus.heldout.items()}
    sizes = {d: t.size for d, t in corpus.heldout.items()}
    theirs = {d: xz_bits(t.tobytes()) for d, t in corpus.heldout.items()}
    together = sum(ours[d] * sizes[d] for d in ours) / sum(sizes.values())
    xz_together = xz_bits(b"".join(t.tobytes() for t in corpus.heldout.values()))
    for domain in ours:
        log(event="heldout", domain=domain, bytes=sizes[domain], model=ours[domain], xz=theirs[domain])
    log(event="heldout", domain="all", bytes=sum(sizes.values()), model=together, xz=xz_together)


def xz_bits(text: bytes) -> float:
    return len(lzma.compress(text, preset=9)) * 8 / len(text)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("kind", choices=sorted(ARCHITECTURES))
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seq", type=int, default=1024)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--decay", type=float, default=0.1)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--balance", type=float, default=1e-3, help="weight of the Switch loss")
    parser.add_argument("--gamma", type=float, default=1e-3, help="speed of the selection bias")
    parser.add_argument("--every", type=int, default=250)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE)
    return parser.parse_args()


def settings(args: argparse.Namespace) -> dict[str, object]:
    """What decides the result, without where it is written."""
    return {key: value for key, value in vars(args).items() if key != "out"}


def main() -> None:
    args = arguments()
    name = ARCHITECTURES[args.kind].name
    with (args.out / f"{name}.log").open("w") as file:

        def log(**fields: object) -> None:
            line = json.dumps(
                {"time": datetime.now(UTC).isoformat(timespec="seconds"), **fields}, default=str
            )
            print(line, flush=True)
            print(line, file=file, flush=True)

        model = train(args, log)
        made = settings(args) | {"torch": torch.__version__, "date": datetime.now(UTC).date().isoformat()}
        save_int8(model.cpu(), args.out / f"{name}.safetensors", made)


if __name__ == "__main__":
    main()
