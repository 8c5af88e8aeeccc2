"""Inputs: what may be read is read, and anything else is one sentence at once."""

import io
import json
import os
import struct
import time
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_core import inputs
from moe_core.errors import MOST, ConfigError, InfeasibleError, short
from tests.hostile import make


def test_a_file_is_read_whole_and_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(100_000))
    assert inputs.read(path, "a", 100_000) == bytes(100_000)
    with pytest.raises(ConfigError, match=r"^a \(100,000 bytes\): must have at most 99,999 bytes$"):
        inputs.read(path, "a", 99_999)


def test_a_file_that_says_it_is_empty_is_read_too() -> None:
    assert inputs.read("/proc/self/status", "status", 60_000).startswith(b"Name:")


def test_what_is_no_file_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    began = time.monotonic()
    for path in make.odd_places(tmp_path):
        with pytest.raises(
            ConfigError, match=r"^it(: cannot be read \(| \([\d,]+ bytes\): must have)"
        ) as raised:
            inputs.read(path, "it", 1_000)
        assert "\n" not in str(raised.value)
    assert time.monotonic() - began < 5


def test_who_looks_for_a_name_that_cannot_be_finds_nothing(tmp_path: Path) -> None:
    for name in ("x" * 300, "a\0b", "half\ud800"):
        assert not inputs.exists(tmp_path / name)
        assert not inputs.is_folder(tmp_path / name)
    assert inputs.is_folder(tmp_path)


def test_of_a_long_name_the_end_is_told() -> None:
    assert inputs.named("out", Path("/a/b.png")) == "out (/a/b.png)"
    told = inputs.named("out", "x" * 4_000 + "/b.png")
    assert (len(told), told[-7:]) == (126, "/b.png)")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "is not JSON"),
        ('{"a": NaN}', "NaN is no finite number"),
        ('{"a": [1e999]}', "1e999 is no finite number"),
        (f'{{"a": {"9" * 5_000}}}', "a whole number has 5,000 digits, at most 40 are read"),
        ('"\\ud800"', "holds half a character"),
        ('"\ud800"', "holds half a character"),
        ("[" * 201 + "]" * 201, "is nested too deeply"),
        ("[" * 100_000, "is nested too deeply"),
        ('{"a":' * 250 + "1" + "}" * 250, "is nested too deeply"),
        ("[" + "[]," * 300_000 + "1]", "more than 300,000 lists"),
        (b"\xff", "byte 0 is not UTF-8"),
    ],
)
def test_json_that_will_not_do(text: str | bytes, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as raised:
        inputs.parse(text, "it")
    assert str(raised.value).startswith("it: ")
    assert len(str(raised.value)) < 200


def test_json_that_will() -> None:
    assert inputs.parse(b'\xef\xbb\xbf{"a": 1, "a": [2.5, "\\ud83d\\ude00"]}', "it") == {
        "a": [2.5, "\U0001f600"]
    }
    deep = "[" * 200 + "]" * 200
    assert json.dumps(inputs.parse(deep, "it")) == deep
    assert inputs.parse("9" * 40, "it") == 10**40 - 1
    assert inputs.parse("[Infinity, -1e999]", "it", finite=False) == [float("inf"), float("-inf")]


@given(st.recursive(st.none() | st.booleans() | st.integers(-(10**39), 10**39) | st.text(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))  # fmt: skip
def test_what_json_wrote_is_read_again(value: object) -> None:
    assert inputs.parse(json.dumps(value), "it") == value
    assert inputs.parse(json.dumps(value, ensure_ascii=False).encode(), "it") == value


@pytest.mark.parametrize(
    "link", ["http://[?a=b", "?" + "a" * 60_000], ids=["no address", "too long"]
)  # fmt: skip
def test_a_link_that_is_none(link: str) -> None:
    with pytest.raises(ConfigError, match=r"^link "):
        inputs.query(link)


def test_the_query_of_a_link_or_alone() -> None:
    asked = {"a": "1", "b": ""}
    assert inputs.query("https://x.org/page?a=0&b=&a=1#c") == asked
    assert inputs.query(" a=0&b=&a=1 ") == asked


def test_every_odd_zip_is_one_sentence_or_its_member() -> None:
    read, refused = [], {}
    for name, data in make.zips():
        try:
            found = inputs.member(data, ("manifest.json",), "it", 8_000_000)
        except ConfigError as error:
            refused[name] = str(error)
        else:
            read.append((name, found and len(found[1])))
    assert read == [("plain.zip", 13), ("bomb_inside.zip", 6_000_010), ("names.zip", None)]
    assert "encrypted" in refused["encrypted.zip"]
    assert "more than 8,000,000 bytes" in refused["bomb.zip"]
    assert "more than 10,000 files" in refused["many.zip"]
    assert {"bz2.zip", "lzma.zip", "packed_oddly.zip", "other_sum.zip", "after.zip"} <= set(refused)
    assert not [said for said in refused.values() if not said.startswith("it: ") or "\n" in said]


def test_the_first_name_of_several_is_taken_from_a_zip() -> None:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as file:
        file.writestr("b", b"2")
        file.writestr("a", b"1")
    assert inputs.member(sink.getvalue(), ("c", "a", "b"), "it", 9) == ("a", b"1")
    assert inputs.member(sink.getvalue(), ("c",), "it", 9) is None


def test_every_sentence_is_one_line_however_it_is_made() -> None:
    for kind in (ConfigError, InfeasibleError):
        assert str(kind("a\n  b\x1b[2J\u2028c\udcff")) == "a b [2J c"
        assert len(str(kind("x" * 10**6))) == MOST
    assert short(10**5_000) == "a very long int"
    assert short([10**5_000]) == "a very long list"


def test_a_pipe_that_appears_in_place_of_a_file_does_not_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at it and its opening: it is looked at again once open."""
    file, pipe = tmp_path / "file", tmp_path / "pipe"
    file.write_bytes(struct.pack("<Q", 1))
    os.mkfifo(pipe)
    whole = os.stat(file)
    monkeypatch.setattr(os, "stat", lambda path: whole)
    with pytest.raises(inputs.NotAFile), inputs.opened(pipe):
        pytest.fail("it is a pipe")
