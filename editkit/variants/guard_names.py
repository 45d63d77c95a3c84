"""Guards as parts of a variant's name."""

from __future__ import annotations

import re

from editkit.plugins import names


def split_guard(name: str) -> tuple[str, str | None]:
    """`VARIANT+GUARD` in two. A guard begins with the name of one.

    >>> split_guard("base+sld:max=blood"), split_guard("church.safetensors")
    (('base', 'sld:max=blood'), ('church.safetensors', None))
    """
    for n in (n for n, letter in enumerate(name) if letter == "+"):
        if re.match(rf"\+({'|'.join(map(re.escape, names('guards')))})(?=[:=]|$)", name[n:]):
            return name[:n], name[n + 1 :]
    return name, None
