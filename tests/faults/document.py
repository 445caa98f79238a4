"""``python -m tests.faults.document``: writes the table of points into ``docs/faults.md`` anew."""

from __future__ import annotations

from pathlib import Path

from tests.faults.table import as_markdown

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "faults.md"
BEGIN, END = "<!-- points -->\n", "\n<!-- end of points -->"


def with_table(text: str) -> str:
    """The document's text with the table as it is now."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + as_markdown() + END + rest.partition(END)[2]


if __name__ == "__main__":
    DOCUMENT.write_text(with_table(DOCUMENT.read_text()))
