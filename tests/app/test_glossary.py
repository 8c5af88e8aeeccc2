"""The glossary: every row of the documents' table, in plain words, and nothing but it."""

from __future__ import annotations

from pathlib import Path

import pytest

from app import glossary


def test_every_word_of_the_documents_is_in_it() -> None:
    found = glossary.words()
    table = glossary.CONCEPTS.read_text(encoding="utf-8").partition("\n## Words\n")[2]
    assert len(found) == table.count("\n|") - 2  # the head and the line under it
    assert found["Router"] == "the part of a layer that decides which experts a token goes to"
    assert "Word" not in found
    assert all(len(plain) > 10 for plain in found.values())


def test_an_installation_without_documents_has_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(glossary, "CONCEPTS", tmp_path / "concepts.md")
    glossary.text.cache_clear()
    assert glossary.words() == {}
    glossary.text.cache_clear()
