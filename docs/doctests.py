"""Examples in docstrings are code on the pages, not text in which brackets would be links."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension  # pyright: ignore[reportMissingImports]

BLOCK = re.compile(r"^>>> .*(?:\n(?!\s*$).*)*", re.MULTILINE)
"""From a prompt to the next blank line."""


class Doctests(Extension):
    """Fences every doctest of a docstring."""

    def on_instance(self, *, obj: Any, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = BLOCK.sub(r"```pycon\n\g<0>\n```", obj.docstring.value)
