"""Make data/corpus/*.parquet again from the Debian packages named in SOURCES.toml.

A maintainer's script; the application never runs it. It needs a Debian bookworm machine (`apt-get download`,
`dpkg -x`) and, beside pandas and pyarrow, the PyPI packages `lxml` and `rdata`.

    python data/corpus/build.py [--packages DIR]

SOURCES.toml is both the record of what was taken and the recipe: `reader` names a function of the table
READERS, `files` are glob patterns inside the unpacked packages, `heldout` are patterns over document keys.
Nothing is random: a source's documents are taken in the order of the SHA-1 of their keys, which samples a
long work evenly.
"""

import argparse
import bz2
import fnmatch
import gettext
import hashlib
import lzma
import re
import subprocess
import tempfile
import tomllib
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

HERE = Path(__file__).parent
MAX_ROW_BYTES = 190_000
MIN_PARAGRAPH = 60
STOPWORDS = {
    "english": "the of to and is that for with you this are be",
    "german": "der die und das ist nicht den ein eine mit zu sie",
    "french": "le la les des et est une dans pour que vous un",
}
NOTICE = re.compile(r"Copyright|COPYRIGHT|WARRANTY|Redistribution|[Ll]icensed (to|under)|\([Cc]\) [12]\d{3}")
Record = dict[str, Any]


class Document(NamedTuple):
    """One natural piece of a source: a file, a chapter or a section."""

    key: str
    text: str


# ---- packages --------------------------------------------------------------------------------------------


def unpack(packages: list[str], folder: Path) -> None:
    """Download and unpack each package into folder/<name>, unless it is there already."""
    for name in packages:
        if (folder / name).is_dir():
            continue
        subprocess.run(["apt-get", "download", name], cwd=folder, check=True)
        archive = next(folder.glob(f"{name}_*.deb"))
        subprocess.run(["dpkg", "-x", str(archive), str(folder / name)], check=True)


def files_of(record: Record, folder: Path) -> Iterator[tuple[str, Path]]:
    """The files a source names, as (path inside the package, path here), sorted and without repeats."""
    skip = record.get("skip", [])
    for package in record["packages"]:
        found = {path for pattern in record["files"] for path in (folder / package).glob(pattern)}
        for path in sorted(found):
            key = path.relative_to(folder).as_posix()
            if path.is_file() and not any(fnmatch.fnmatch(key, pattern) for pattern in skip):
                yield key, path


# ---- natural language ------------------------------------------------------------------------------------


def is_language(text: str, domain: str) -> bool:
    """Translations are often incomplete; a paragraph left in English must not enter another language."""
    if domain == "russian":
        letters = [char for char in text if char.isalpha()]
        return sum("\u0430" <= char.lower() <= "\u044f" for char in letters) > 0.6 * len(letters)
    words = re.findall(r"\w+", text.lower())
    count = {name: sum(word in known.split() for word in words) for name, known in STOPWORDS.items()}
    return count[domain] > max([n for name, n in count.items() if name != domain])


def one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def read_pages(record: Record, folder: Path) -> Iterator[Document]:
    """Running text of HTML and Mallard pages: leaf paragraphs only, so menus and listings fall away."""
    from lxml import etree

    parser = etree.XMLParser(recover=True, resolve_entities=False)
    for key, path in files_of(record, folder):
        root = etree.fromstring(path.read_bytes(), parser)
        found = (one_line("".join(node.itertext())) for node in root.iter() if is_paragraph(node))
        keep = [text for text in found if len(text) >= MIN_PARAGRAPH and is_language(text, record["domain"])]
        yield Document(key, "\n\n".join(keep) + "\n")


def is_paragraph(node: Any) -> bool:
    """A paragraph that holds no other block, and is not part of a table of contents or page furniture."""
    if not isinstance(node.tag, str):
        return False
    name = node.tag.rpartition("}")[2]
    if name != "p" and not (name == "div" and node.get("class") == "para"):
        return False
    blocks = {"p", "div", "ul", "ol", "dl", "pre", "table", "list", "steps"}
    if any(
        isinstance(child.tag, str) and child.tag.rpartition("}")[2] in blocks
        for child in node.iterdescendants()
    ):
        return False
    furniture = {"toc", "navheader", "navfooter", "docnav", "legalnotice", "info", "credit", "license"}
    around = [*node.iterancestors()]
    return not any({parent.get("class"), str(parent.tag).rpartition("}")[2]} & furniture for parent in around)


def read_wesnoth(record: Record, folder: Path) -> Iterator[Document]:
    """Story and dialogue of the campaigns, in order: the .cfg has the order, the .mo the translation."""
    seen: set[str] = set()
    for key, path in files_of(record, folder):
        catalogue = wesnoth_catalogue(folder / Path(key).parts[0], record["locale"])
        quoted = re.findall(r'_\s*"((?:[^"]|"")*)"', path.read_text("utf-8"))
        lines = []
        for original in (text.replace('""', '"') for text in quoted):
            text = wesnoth_line(catalogue.get(original, ""))
            if len(text) >= MIN_PARAGRAPH and text not in seen and is_language(text, record["domain"]):
                seen.add(text)
                lines.append(text)
        yield Document(key, "\n\n".join(lines) + "\n")


def wesnoth_line(text: str) -> str:
    """Plain text of one string: Pango mark-up and variables of the game are no prose."""
    if "$" in text or "=" in text:
        return ""
    return one_line(re.sub(r"</?\w[^>]*>", "", text))


def wesnoth_catalogue(package: Path, locale: str) -> dict[Any, str]:
    with next(package.rglob(f"{locale}/LC_MESSAGES/*.mo")).open("rb") as stream:
        return vars(gettext.GNUTranslations(stream))["_catalog"]


def read_austen(record: Record, folder: Path) -> Iterator[Document]:
    """Chapters of one novel, out of R's lazy-load data base; the wrapped lines become paragraphs."""
    lines = lazy_load(next(folder.glob("r-cran-janeaustenr/usr/**/Rdata.rdb")), record["novel"])
    chapters = re.split(r"(?m)^\s*(?:Chapter|CHAPTER) (?:\d+|[IVXLC]+)\.?[^\n]*$", "\n".join(lines))
    for number, chapter in enumerate(chapters[1:], start=1):
        paragraphs = [one_line(part) for part in re.split(r"\n\s*\n", chapter)]
        text = "\n\n".join(
            part for part in paragraphs if part and not re.fullmatch(r"(?i)finis|the end", part)
        )
        yield Document(f"{record['novel']}#{number:02}", text + "\n")


def lazy_load(base: Path, name: str) -> list[str]:
    """One variable of an R lazy-load data base: the index gives (offset, length) of a compressed block."""
    import rdata

    index = rdata.read_rds(base.with_suffix(".rdx"))
    offset, length = (int(number) for number in index["variables"][name])
    block = base.read_bytes()[offset + 4 : offset + length]
    inflate: dict[bytes, Callable[[bytes], bytes]] = {b"2": bz2.decompress, b"Z": lzma.decompress}
    raw = inflate[block[:1]](block[1:]) if block[:1] in inflate else zlib.decompress(block)
    return [str(line) for line in rdata.conversion.convert(rdata.parser.parse_data(raw))]


# ---- code, mathematics, mark-up --------------------------------------------------------------------------


def read_c(record: Record, folder: Path) -> Iterator[Document]:
    """C files without the comments that hold licences: a notice in both splits would be a near-copy."""
    for key, path in files_of(record, folder):
        text = path.read_text("utf-8", errors="ignore")
        text = re.sub(r"/\*.*?\*/", lambda m: "" if NOTICE.search(m[0]) else m[0], text, flags=re.S)
        text = re.sub(r"(?m)^//.*(Copyright|[Ll]icense).*\n", "", text)
        yield Document(key, text.strip() + "\n")


def read_python(record: Record, folder: Path) -> Iterator[Document]:
    """Python files without licence comments: whole runs of comment lines go when one line is a notice."""
    for key, path in files_of(record, folder):
        text = path.read_text("utf-8", errors="ignore")
        text = re.sub(r"(?m)(^#.*\n)+", lambda match: "" if NOTICE.search(match[0]) else match[0], text)
        yield Document(key, text.strip() + "\n")


def read_coq(record: Record, folder: Path) -> Iterator[Document]:
    """Theorems and proofs; every file starts with the same framed notice."""
    for key, path in files_of(record, folder):
        text = re.sub(
            r"(?m)(^\(\*.*\*\)\n)+", lambda m: "" if NOTICE.search(m[0]) else m[0], path.read_text("utf-8")
        )
        yield Document(key, text.strip() + "\n")


def read_tex(record: Record, folder: Path) -> Iterator[Document]:
    """Sections of TeX manuals, comments and indexing left out."""
    for key, path in files_of(record, folder):
        text = path.read_text("utf-8", errors="replace").replace("\ufffd", "")
        text = re.sub(r"(?m)^%.*\n", "", text)
        parts = re.split(r"(?m)^(?=\\(?:sub)?section\b|\\chapter\b|\\(?:sub)?sec(?:title)?\b)", text)
        for number, part in enumerate(parts):
            if not NOTICE.search(part) and len(part) > 400:
                yield Document(f"{key}#{number:03}", part.strip() + "\n")


def read_metamath(record: Record, folder: Path) -> Iterator[Document]:
    """Sections of a Metamath data base: every theorem in words and in symbols, without its proof."""
    for key, path in files_of(record, folder):
        sections = re.split(r"(?:=-){20,}=?|(?:#\*){20,}#?|(?:-\.){20,}-?", path.read_text("utf-8"))
        for number, section in enumerate(sections):
            found = re.findall(r"\$\(((?:(?!\$\)).)*?)\$\)\s+(\S+) \$[pa] (.*?) \$[=.]", section, flags=re.S)
            theorems = [metamath_theorem(*parts) for parts in found]
            if len(theorems) >= 3:
                yield Document(f"{key}#{number:04}", "\n\n".join(theorems) + "\n")


def metamath_theorem(comment: str, label: str, statement: str) -> str:
    """`~ label` and the back-quotes round formulas are mark-up; credits and usage notes are dropped."""
    words = one_line(re.sub(r"` (.*?) `(?=\W|$)", r"\1", one_line(comment)).replace("~ ", ""))
    words = re.sub(
        r"\s*\((Contributed|Revised|Proof|New usage|Proof modification|Proposed)[^()]*\)", "", words
    )
    return f"{words} [{label}]\n    {one_line(statement)}"


def read_html(record: Record, folder: Path) -> Iterator[Document]:
    """HTML source of the page's own section or chapter, navigation and contents cut away."""
    from lxml import etree

    chosen = "//*[@role='main'] | //*[local-name()='body']/*[@class='chapter' or @class='appendix']"
    chrome = "//*[@class='toc' or @class='headerlink' or @class='indexterm' or @class='legalnotice']"
    for key, path in files_of(record, folder):
        root = etree.fromstring(path.read_bytes(), etree.HTMLParser(encoding="utf-8"))
        for node in root.xpath(chrome):
            drop(node)
        text = "".join(
            etree.tostring(node, encoding="unicode", method="html") for node in root.xpath(chosen)[:1]
        )
        yield Document(key, text.strip() + "\n")


def drop(node: Any) -> None:
    """Remove a node and keep the text that follows it, which lxml stores on the node."""
    parent, before = node.getparent(), node.getprevious()
    if before is not None:
        before.tail = (before.tail or "") + (node.tail or "")
    else:
        parent.text = (parent.text or "") + (node.tail or "")
    parent.remove(node)


def read_mallard(record: Record, folder: Path) -> Iterator[Document]:
    """Mallard XML source; the credits in <info> are the same on every page."""
    for key, path in files_of(record, folder):
        text = re.sub(r"(?s)\n *<(credit|revision|include)\b.*?(</\1>|/>)", "", path.read_text("utf-8"))
        yield Document(key, re.sub(r"\n\s*\n\s*\n", "\n\n", text).strip() + "\n")


READERS: dict[str, Callable[[Record, Path], Iterator[Document]]] = {
    "pages": read_pages,
    "wesnoth": read_wesnoth,
    "austen": read_austen,
    "c": read_c,
    "python": read_python,
    "coq": read_coq,
    "tex": read_tex,
    "metamath": read_metamath,
    "html": read_html,
    "mallard": read_mallard,
}


# ---- splitting and writing -------------------------------------------------------------------------------


def size(text: str) -> int:
    return len(text.encode())


def take(documents: list[Document], limit: int, *, cut: bool) -> Iterator[Document]:
    """Documents up to a total of limit bytes; the last may be cut (at a blank line) if it is for training."""
    left = limit
    for document in documents:
        if size(document.text) <= left:
            left -= size(document.text)
            yield document
        elif cut and left > 500:
            text = document.text.encode()[:left].decode(errors="ignore").rpartition("\n\n")[0]
            yield Document(document.key, text + "\n")
            return


def rows_of(record: Record, folder: Path) -> Iterator[dict[str, str]]:
    """Rows of one source: held-out documents by name, the rest for training, then in the work's own order."""
    found = [document for document in READERS[record["reader"]](record, folder) if size(document.text) > 300]
    found.sort(key=lambda document: hashlib.sha1(document.key.encode()).hexdigest())
    patterns = record.get("heldout", [])
    held = [d for d in found if any(fnmatch.fnmatch(d.key, pattern) for pattern in patterns)]
    parts = {
        "train": take([d for d in found if d not in held], record["train_limit"], cut=True),
        "heldout": take(held, record.get("heldout_limit", 0), cut=False),
    }
    for split, documents in parts.items():
        for document in sorted(documents):
            for text in pieces(document.text):
                yield {"domain": record["domain"], "source": record["title"], "split": split, "text": text}


def pieces(text: str) -> Iterator[str]:
    """Rows stay small enough to look at: a long document is divided at blank lines."""
    while size(text) > MAX_ROW_BYTES:
        head = text.encode()[:MAX_ROW_BYTES].decode(errors="ignore").rpartition("\n\n")[0]
        yield head + "\n"
        text = text[len(head) :].lstrip("\n")
    if text.strip():
        yield text


def check(record: Record, rows: list[dict[str, str]]) -> None:
    """The bytes written in SOURCES.toml are facts: a package that changed must be noticed."""
    for split in ("train", "heldout"):
        made = sum(size(row["text"]) for row in rows if row["split"] == split)
        stated = record.get(f"{split}_bytes", 0)
        note = "" if made == stated else f"   SOURCES.toml says {stated}"
        print(f"{record['domain']:12}{split:8}{made:>10}  {record['title']}{note}")


def build(folder: Path) -> None:
    """Write one Parquet file a domain."""
    records = tomllib.loads((HERE / "SOURCES.toml").read_text("utf-8"))["source"]
    rows: dict[str, list[dict[str, str]]] = {}
    for record in records:
        unpack(record["packages"], folder)
        made = list(rows_of(record, folder))
        check(record, made)
        rows.setdefault(record["domain"], []).extend(made)
    for domain, of_domain in rows.items():
        frame = pd.DataFrame(of_domain, columns=["domain", "source", "split", "text"])
        frame.to_parquet(HERE / f"{domain}.parquet", compression="zstd", compression_level=22, index=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--packages", type=Path, help="folder of unpacked packages (default: a new one)")
    given = parser.parse_args().packages
    with tempfile.TemporaryDirectory() as scratch:
        build(given or Path(scratch))


if __name__ == "__main__":
    main()
