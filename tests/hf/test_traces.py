"""Traces: every shape that engines write is read back as what was chosen; what is open is asked for."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moe_core.errors import ConfigError
from moe_core.hf.traces import KINDS, SCHEMA, Known, Trace, read, write

TOKENS, LAYERS, TOP_K, EXPERTS = 5, 4, 2, 8
DENSE = 0  # the first layer has no experts
WHOLE = Known(layers=(1, 2, 3), decoder=4, experts=EXPERTS, top_k=TOP_K)


def ids(tokens: int = TOKENS, seed: int = 0, top_k: int = TOP_K) -> np.ndarray:
    """[tokens, decoder layers, k]: distinct experts a token, zeros in the dense layer."""
    generator = np.random.default_rng(seed)
    drawn = generator.random((tokens, LAYERS, EXPERTS)).argsort(-1)[..., :top_k]
    drawn[:, DENSE] = 0
    return drawn.astype(np.int32)


def expected(found: np.ndarray, layers: tuple[int, ...] = (1, 2, 3)) -> set[tuple[int, ...]]:
    """(layer, position, slot, expert) of everything that was chosen."""
    return {
        (layer, token, slot, int(found[token, layer, slot]))
        for layer in layers
        for token in range(len(found))
        for slot in range(found.shape[2])
        if found[token, layer, slot] >= 0
    }


def chosen(trace: Trace, sequence: int = 0) -> set[tuple[int, ...]]:
    table = trace.table()
    assert table.schema.equals(SCHEMA)
    frame = table.to_pandas()
    mine = frame[frame["sequence"] == sequence][["layer", "position", "slot", "expert"]]
    return set(mine.itertuples(index=False, name=None))


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def put(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


# -- arrays and answers ----------------------------------------------------------------------------


@pytest.mark.parametrize("known", [WHOLE, Known(), Known(decoder=4), Known(layers=(1, 2, 3))])
def test_vllm_all_layers_with_zeros_in_dense_ones(tmp_path: Path, known: Known) -> None:
    (tmp_path / "a.npy").write_bytes(npy(ids()))
    trace = read(tmp_path / "a.npy", known)
    assert chosen(trace) == expected(ids())
    assert "4 layers" in trace.notes[0]


def test_vllm_layers_with_experts_alone(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(npy(ids()[:, 1:]))
    assert chosen(read(tmp_path / "a.npy", WHOLE)) == expected(ids())  # by the model, layers 1 to 3
    assert {row[0] for row in chosen(read(tmp_path / "a.npy"))} == {0, 1, 2}  # without: as they stand


def test_vllm_prompt_and_answer_with_cached_positions(tmp_path: Path) -> None:
    prompt, answer = ids()[:3, 1:].copy(), ids()[3:, 1:]
    prompt[:2] = -1  # read from the prefix cache
    path = put(tmp_path / "a.json", {
        "prompt_routed_experts": prompt.tolist(), "prompt_token_ids": [7, 8, 9],
        "choices": [{"routed_experts": answer.tolist(), "token_ids": [10, 11, 12]}],
    })  # fmt: skip
    trace = read(path, WHOLE)
    frame = trace.table().to_pandas()
    assert set(frame["position"]) == {2, 3, 4}
    assert dict(zip(frame["position"], frame["token_id"], strict=True)) == {2: 9, 3: 10, 4: 11}
    assert chosen(read(path, WHOLE)) == {row for row in expected(ids()) if row[1] > 1}


def test_vllm_numpy_in_base64_and_answers_line_by_line(tmp_path: Path) -> None:
    lines = [{"choices": [{"routed_experts": b64(npy(ids(n, seed=n)))}]} for n in (2, 3)]
    path = put(tmp_path / "a.jsonl", "\n".join(map(json.dumps, lines)))
    for sequence, tokens in enumerate((2, 3)):
        assert chosen(read(path, WHOLE), sequence) == expected(ids(tokens, seed=tokens))
    whole = put(tmp_path / "b.json", lines)
    assert read(whole, WHOLE).table().equals(read(path, WHOLE).table())


def test_sglang_answers_say_no_shape(tmp_path: Path) -> None:
    path = put(tmp_path / "a.json", {"meta_info": {"routed_experts": b64(ids().tobytes())}})
    assert chosen(read(path, WHOLE)) == expected(ids())
    with pytest.raises(ConfigError, match="says no shape: say how many decoder layers and experts a token"):
        read(path)
    with pytest.raises(ConfigError, match="are no whole number of tokens with 7 layers"):
        read(path, Known(decoder=7, top_k=2))


@given(st.integers(1, 12), st.integers(0, 1000), st.sampled_from([1, 2, 3]))
def test_any_array_comes_back(tokens: int, seed: int, top_k: int) -> None:
    import tempfile

    found = ids(tokens, seed, top_k)
    known = WHOLE._replace(top_k=top_k, zero="expert")
    with tempfile.TemporaryDirectory() as folder:
        path = put(Path(folder) / "a.json", {"choices": [{"routed_experts": found.tolist()}]})
        assert chosen(read(path, known)) == expected(found)


# -- what cannot be told ---------------------------------------------------------------------------


def test_one_expert_a_token_makes_zero_mean_two_things(tmp_path: Path) -> None:
    one = ids(top_k=1)
    (tmp_path / "a.npy").write_bytes(npy(one))
    with pytest.raises(ConfigError, match="layer 0 is dense or has expert 0 for every token: say which have"):
        read(tmp_path / "a.npy")
    one[2] = 0
    (tmp_path / "a.npy").write_bytes(npy(one))
    known = WHOLE._replace(top_k=1)
    with pytest.raises(ConfigError, match="token 2 has expert 0 in every layer, or none was recorded"):
        read(tmp_path / "a.npy", known).table()
    assert chosen(read(tmp_path / "a.npy", known._replace(zero="expert"))) == expected(one)
    missing = chosen(read(tmp_path / "a.npy", known._replace(zero="missing")))
    assert missing == {row for row in expected(one) if row[1] != 2}


@pytest.mark.parametrize(
    ("array", "known", "sentence"),
    [
        (ids()[:, :2], WHOLE, r"has 2 layers, the model 4, 3 of them with experts"),
        (ids(top_k=3), WHOLE, "has 3 experts a token, the model takes 2"),
        (ids() + 8, WHOLE, r"expert \d+, the model has 8; are they physical ids\?"),
        (np.full((3, 4, 2), 5), WHOLE, "token 0 has an expert twice"),
        (np.zeros((3, 4, 2), int), Known(), "no layer chooses an expert"),
        (ids()[0], Known(), r"must be whole numbers, \[tokens, layers, experts a token\]"),
        (ids().astype(float), Known(), "must be whole numbers"),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    tmp_path: Path, array: np.ndarray, known: Known, sentence: str
) -> None:
    (tmp_path / "a.npy").write_bytes(npy(array))
    with pytest.raises(ConfigError, match=sentence) as raised:
        read(tmp_path / "a.npy", known).table()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("a.json", "{}", "has no routed_experts; the server must be asked for them"),
        ("a.json", "[1]", "must be the object that a server answered with"),
        ("a.json", "[]", "is empty"),
        ("a.json", '{"routed_experts": "%%%"}', "is no base64"),
        ("a.json", '{"routed_experts": [[[1]], [[1, 2]]]}', "must be lists of one length"),
        ("a.json", '{"choices": [{}, {}]}', r"must have one choice \(n = 1\)"),
        ("a.jsonl", "", "is empty"),
        ("a.jsonl", '{"top_indices": [1]}', "must have step, layer, num_tokens, topk, top_indices"),
        ("a.csv", "layer,expert\n1,2\n", r"must have the column position \(or token\)"),
        ("a.csv", "position,expert\n1,2\n", "must have the columns layer and expert"),
        ("a.parquet", "PAR1", "cannot be read as Parquet"),
        ("a.npy", "x", "is no array of numpy"),
        ("a.pt", "x", "cannot be read"),
        ("a.txt", "x", "must be a folder or end in"),
    ],
)
def test_bad_files_are_one_sentence(tmp_path: Path, name: str, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as raised:
        read(put(tmp_path / name, text)).table()
    assert "\n" not in str(raised.value)
    assert name in str(raised.value)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[[print]]], dtype=object), allow_pickle=True)
    torch.save({"records": [print]}, tmp_path / "a.pt")
    for name in ("a.npy", "a.pt"):
        with pytest.raises(ConfigError):
            read(tmp_path / name)


# -- recorders -------------------------------------------------------------------------------------


def sglang(path: Path, found: np.ndarray, **more: Any) -> Path:
    """A recorder's file: eight slots, those that are not used -1."""
    padded = np.full((LAYERS, len(found), 8), -1)
    padded[:, :, :TOP_K] = found.transpose(1, 0, 2)
    record = {"forward_pass_id": 1, "rank": 0, "topk_ids_of_layer": torch.from_numpy(padded).int()}
    torch.save({"records": [record | more.pop("record", {})], **more}, path)
    return path


def test_sglang_recorder(tmp_path: Path) -> None:
    trace = read(sglang(tmp_path / "a.pt", ids()), WHOLE)
    assert chosen(trace) == expected(ids())
    assert trace.notes[0].startswith("forward passes: 1; 4 layers")


def test_sglang_requests_have_their_own_positions(tmp_path: Path) -> None:
    extra = {
        "extend_seq_lens": [2, 3],
        "positions": torch.tensor([4, 5, 0, 1, 2]),
        "input_ids": torch.arange(5),
    }
    frame = read(sglang(tmp_path / "a.pt", ids(), record=extra), WHOLE).table().to_pandas()
    places = frame.groupby("sequence")["position"].unique().map(sorted).to_dict()
    assert places == {0: [4, 5], 1: [0, 1, 2]}
    assert frame.groupby("sequence")["token_id"].unique().map(sorted).to_dict() == {0: [0, 1], 1: [2, 3, 4]}


def test_sglang_physical_ids_become_logical(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    to_logical = np.stack([np.concatenate([generator.permutation(EXPERTS), [0, 5]]) for _ in range(LAYERS)])
    logical, physical = ids(), ids()
    for layer in range(1, LAYERS):
        places = np.argsort(to_logical[layer, :EXPERTS])  # logical -> one physical place
        physical[:, layer] = places[logical[:, layer]]
    physical[:, DENSE] = -1
    path = sglang(tmp_path / "a.pt", physical, last_physical_to_logical_map=torch.from_numpy(to_logical))
    trace = read(path, WHOLE)
    assert "physical ids mapped" in trace.notes[0]
    assert chosen(trace) == expected(logical)


def test_sglang_statistics_hold_no_choices(tmp_path: Path) -> None:
    torch.save({"rank": 0, "logical_count": torch.ones(1, 4, 8)}, tmp_path / "a.pt")
    with pytest.raises(ConfigError, match="holds counts of experts and no choices"):
        read(tmp_path / "a.pt")


def test_megatron_lines(tmp_path: Path) -> None:
    lines = [
        {"step": step, "stage": 0, "block": 0, "layer": layer, "rank": rank, "num_tokens": 2, "topk": TOP_K}
        | {"top_indices": ids(4, seed=rank)[2 * step : 2 * step + 2, layer].flatten().tolist()}
        for step in (0, 1)
        for layer in (1, 2, 3)
        for rank in (0, 1)
    ]
    path = put(tmp_path / "a.jsonl", "\n".join(map(json.dumps, lines)))
    trace = read(path, WHOLE)
    assert trace.kind == "Megatron"
    assert chosen(trace) == expected(ids(4))
    assert chosen(read(path), 1) == expected(ids(4, seed=1))
    with pytest.raises(ConfigError, match=r"line 1: layer 1 has no experts in this model"):
        read(path, Known(layers=(2, 3))).table()


def test_flame_moe_folder(tmp_path: Path) -> None:
    for step in (5, 40):
        folder = tmp_path / "actives" / f"iter_{step}"
        folder.mkdir(parents=True)
        for layer in (1, 2, 3):
            mine = ids(seed=step)[:, layer]
            scores = np.full(mine.shape, 0.5, dtype=np.float16)
            table = pa.table({
                "scores": pa.array(list(scores), pa.list_(pa.float16())),
                "indices": pa.array(list(mine.astype(np.int16)), pa.list_(pa.int16())),
            })  # fmt: skip
            pq.write_table(table, folder / f"layer_{layer:02d}.parquet")
    (tmp_path / "samples").mkdir()
    pq.write_table(pa.table({"token_id": list(range(100, 105))}), tmp_path / "samples" / "0.parquet")
    trace = read(tmp_path, WHOLE)
    frame = trace.table().to_pandas()
    assert "step 40, the last of 2" in trace.notes[0]
    assert chosen(read(tmp_path, WHOLE)) == expected(ids(seed=40))
    assert (frame["token_id"] == frame["position"] + 100).all()
    assert (frame["weight"] == 0.5).all()


# -- plain tables ----------------------------------------------------------------------------------


def long_rows() -> pd.DataFrame:
    rows = sorted(expected(ids()))
    frame = pd.DataFrame(rows, columns=["layer", "position", "slot", "expert"])
    return frame.assign(weight=0.25, sequence=3, domain="law")


def test_a_row_a_choice(tmp_path: Path) -> None:
    rows = long_rows()
    rows.to_parquet(tmp_path / "a.parquet")
    rows.to_csv(tmp_path / "a.csv", index=False)
    for name in ("a.parquet", "a.csv"):
        frame = read(tmp_path / name, WHOLE).table().to_pandas()
        assert set(frame["sequence"]) == {3}
        assert set(frame["domain"]) == {"law"}
        assert chosen(read(tmp_path / name, WHOLE), 3) == expected(ids())
    other = rows.rename(columns={"position": "token", "expert": "expert_id"}).drop(
        columns=["slot", "sequence"]
    )
    other.to_csv(tmp_path / "b.csv", index=False)
    trace = read(tmp_path / "b.csv")
    assert "token as position, expert_id as expert" in trace.notes[0]
    assert chosen(trace) == expected(ids())  # slots as they stand


def test_a_row_a_token(tmp_path: Path) -> None:
    grouped = long_rows().groupby(["layer", "position"])
    frame = grouped.agg(experts=("expert", list), weights=("weight", list)).reset_index()
    frame.to_parquet(tmp_path / "a.parquet")
    trace = read(tmp_path / "a.parquet", WHOLE._replace(domain="prose"))
    table = trace.table().to_pandas()
    assert set(table["domain"]) == {"prose"}
    assert (table["weight"] == 0.25).all()
    assert chosen(read(tmp_path / "a.parquet", WHOLE)) == expected(ids())
    frame["weights"] = frame["weights"].map(lambda one: one[:1])
    frame.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match="must have as many weights as experts in every row"):
        read(tmp_path / "a.parquet").table()


def test_a_table_of_a_million_choices_is_read_in_pieces(tmp_path: Path) -> None:
    tokens, generator = 120_000, np.random.default_rng(0)
    experts = generator.integers(0, EXPERTS, (3 * tokens, 3)).astype(np.int16)
    table = pa.table({
        "layer": np.repeat(np.arange(1, 4, dtype=np.int16), tokens),
        "position": np.tile(np.arange(tokens, dtype=np.int32), 3),
        "experts": pa.array(list(experts)),
    })  # fmt: skip
    pq.write_table(table, tmp_path / "a.parquet")
    pieces = [piece.num_rows for piece in read(tmp_path / "a.parquet").batches]
    assert sum(pieces) == experts.size
    assert max(pieces) <= 3 * 2**19


def test_gaps_and_foreign_layers_are_refused(tmp_path: Path) -> None:
    rows = long_rows()
    rows.assign(expert=rows["expert"].where(rows["position"] > 0)).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match="column expert has gaps"):
        read(tmp_path / "a.parquet").table()
    rows.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match="layer 1 has no experts in this model"):
        read(tmp_path / "a.parquet", Known(layers=(2, 3))).table()


# -- written for others ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_read_back(tmp_path: Path, kind: str) -> None:
    lines = [{"choices": [{"routed_experts": ids(n, seed=n).tolist()}]} for n in (3, 5)]
    choices = read(put(tmp_path / "a.json", lines), WHOLE).table()
    ending = "parquet" if kind == "parquet" else "jsonl"
    again = read(write(tmp_path / f"b.{ending}", kind, choices, WHOLE), WHOLE)
    for sequence, tokens in enumerate((3, 5)):
        assert chosen(again, sequence) == expected(ids(tokens, seed=tokens))
        again = read(tmp_path / f"b.{ending}", WHOLE)


def test_what_a_shape_cannot_hold_is_refused(tmp_path: Path) -> None:
    choices = read(put(tmp_path / "a.json", {"routed_experts": ids().tolist()}), WHOLE).table()
    with pytest.raises(ConfigError, match=r"kind \(pickle\): must be one of vllm, sglang, megatron, parquet"):
        write(tmp_path / "b", "pickle", choices)
    with pytest.raises(ConfigError, match="layer 3 is beyond the decoder's layers"):
        write(tmp_path / "b", "sglang", choices, Known(decoder=3))
    with pytest.raises(ConfigError, match="has no choices"):
        write(tmp_path / "b", "vllm", choices.slice(0, 0))
    position = choices.schema.get_field_index("position")
    far = choices.set_column(position, "position", pa.array([10**8] * choices.num_rows, pa.int32()))
    with pytest.raises(ConfigError, match="positions up to 100,000,000 are too sparse"):
        write(tmp_path / "b", "vllm", far)
