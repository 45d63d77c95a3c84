"""Text files of tests, and what is read of them."""

from __future__ import annotations

from pathlib import Path

from editkit.drawing.prompt_file import read_prompts
from editkit.files.text.table import Layout

ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32")


def written(folder: Path, content: str | bytes, name: str = "p.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def prompts(path: Path, columns: str | None = None, separator: str | None = None) -> list[str]:
    return [case.prompt for case in read_prompts(path, layout=Layout.of(columns, separator))]
