"""The examples in the docstrings, each module on its own."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import editkit

ROOT = Path(editkit.__file__).parent


def modules() -> list[str]:
    """Modules of the package with an example in them."""
    paths = [path for path in sorted(ROOT.rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")]
    names = [".".join(("editkit", *path.relative_to(ROOT).with_suffix("").parts)) for path in paths]
    return [name.removesuffix(".__init__") for name in names]


@pytest.mark.parametrize("name", modules())
def test_examples_show_what_happens(name: str) -> None:
    results = doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS)
    assert results.attempted and not results.failed
