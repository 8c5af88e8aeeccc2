"""Write what is generated of the documents: `python -m docs.make`. --check only says what is stale."""

from __future__ import annotations

import sys
from pathlib import Path

from moe_core.cli.reference import markdown

HERE = Path(__file__).parent
MADE = {"cli.md": markdown}


def stale() -> list[str]:
    """Files that differ from what the code says now."""
    return [
        name
        for name, make in MADE.items()
        if not (HERE / name).exists() or (HERE / name).read_text(encoding="utf-8") != make()
    ]


def main() -> int:
    found = stale()
    if "--check" in sys.argv[1:]:
        print(*(f"{name} is stale: python -m docs.make" for name in found), sep="\n")
        return bool(found)
    for name in found:
        (HERE / name).write_text(MADE[name](), encoding="utf-8")
    print(*(f"wrote docs/{name}" for name in found), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
