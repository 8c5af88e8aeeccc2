"""Text: other people's words, made safe for every file they go into. Nothing here knows a format.

Names, notes and labels may hold anything: markup, formulas, control characters, halves of characters.
`clean` keeps what can be read, in any script; the writers of HTML, SVG and XML still escape it.
"""

from __future__ import annotations

import re
import unicodedata

from moe_core.units import quantity, significant

_UNREADABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\U000e0000-\U000e0fff]")
_OVERRIDES = re.compile("[\u202a-\u202e\u2066-\u2069]")  # they turn the text that follows around
_ESCAPED = re.compile(r"\\([`*_{}\[\]()<>#+\-.!|$~:^&\"'=@/])")
_ICON = re.compile(r":material/\w+:\s?")
_COLOURED = re.compile(r":[a-z]+(?:-[a-z]+)*\[([^\[\]]*)\]")
_STARS = re.compile(r"\*\*(.+?)\*\*")
_AREA = 0xE000  # of private use, where what was escaped waits
_KEPT = re.compile("[\ue021-\ue07e]")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\N{FULLWIDTH EQUALS SIGN}", "|", "%")


def clean(text: str, limit: int = 20_000) -> str:
    """Text that any XML, font and terminal can take: no controls, surrogates or direction overrides.

    Line breaks and tabs stay; longer text is cut at `limit` characters with an ellipsis.
    """
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    whole = whole.replace("\r\n", "\n").replace("\r", "\n")
    whole = _OVERRIDES.sub("", _UNREADABLE.sub("", whole))
    return whole if len(whole) <= limit else whole[: limit - 1] + "\N{HORIZONTAL ELLIPSIS}"


def line(text: str, limit: int = 200) -> str:
    """`clean`, on one line."""
    return clean(re.sub(r"\s+", " ", clean(text, 10 * limit)).strip(), limit)


def cell(value: object) -> object:
    """A value for a spreadsheet. Text that one would compute gets an apostrophe, which keeps it text."""
    if not isinstance(value, str):
        return value
    text = clean(value)
    return "'" + text if text.lstrip(" \n").startswith(_FORMULA) else text


def many(count: int, nouns: str) -> str:
    """`1 device`, `1,024 tokens`: a count with its plural, which loses its last letter after one."""
    one = count == 1 and nouns.endswith("s") and "/" not in nouns
    return f"{count:,} {nouns[:-1] if one else nouns}".rstrip()


def plain(text: str) -> str:
    """Markdown of a page as plain words: escapes, icons, colours and stars are taken off."""
    kept = _ESCAPED.sub(lambda found: chr(_AREA + ord(found[1])), text.replace("\N{WORD JOINER}", ""))
    kept = _STARS.sub(r"\1", _ICON.sub("", kept))
    while (less := _COLOURED.sub(r"\1", kept)) != kept:
        kept = less
    return _KEPT.sub(lambda found: chr(ord(found[0]) - _AREA), kept)


def unescaped(text: str) -> str:
    """Other people's words without the backslashes that Markdown wants; their own stars and brackets stay."""
    return _ESCAPED.sub(r"\1", text)


def slug(text: str, limit: int = 48) -> str:
    """A file name from a title: ASCII letters, digits and hyphens; never empty, never a path."""
    plain = unicodedata.normalize("NFKD", clean(text)).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:limit].rstrip("-") or "untitled"


def short(text: str) -> str:
    """Every character in 16 bits: others by the letter they stand for, or as a box."""
    return re.sub("[\U00010000-\U0010ffff]", lambda found: _plain(found[0]), text)


def _plain(letter: str) -> str:
    simple = unicodedata.normalize("NFKC", letter)
    return simple if simple.isalnum() and max(simple) < "\U00010000" else "\N{WHITE SQUARE}"


def is_rtl(text: str) -> bool:
    """Whether the first strong character is read from right to left."""
    kinds = (unicodedata.bidirectional(letter) for letter in text)
    return next((kind for kind in kinds if kind in {"L", "R", "AL"}), "L") != "L"


def show(value: int | float | str | None, unit: str, digits: int = 3) -> str:
    """A number as people read it; a sentence as it is."""
    if value is None or isinstance(value, str):
        return value or "none"
    if isinstance(value, int) and unit != "B":
        return many(value, unit)
    return quantity(value, unit, digits) if unit in ("B", "s") else f"{significant(value, digits)} {unit}"
