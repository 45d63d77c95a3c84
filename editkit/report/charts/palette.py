"""Colours of the report, light and dark, as CSS custom properties; charts that stand alone get them as values."""

from __future__ import annotations

import re

COLOURS = {
    "page": ("#ffffff", "#121417"),
    "card": ("#f7f8f9", "#1a1d21"),
    "line": ("#e3e6ea", "#2d3239"),
    "ink": ("#14171a", "#eceff2"),
    "soft": ("#59616b", "#a4adb8"),
    "accent": ("#2457d6", "#86abff"),
    "good": ("#13703f", "#5fd39a"),
    "bad": ("#b3261e", "#ff9a90"),
    "warm": ("#c2410c", "#ff9c5b"),
    "cool": ("#2457d6", "#86abff"),
}
VARIANTS = (
    ("#7b848f", "#98a2ae"),
    ("#2457d6", "#86abff"),
    ("#c2410c", "#ff9c5b"),
    ("#0f766e", "#45d1bf"),
    ("#7e22ce", "#c99bff"),
    ("#8a6100", "#efc84a"),
    ("#be185d", "#ff8fc2"),
    ("#4d7c0f", "#a8d95c"),
)
"""Variant 0 is the one that the others are held against."""
NAMED = COLOURS | {f"v{n}": pair for n, pair in enumerate(VARIANTS)}


def variant_class(number: int) -> str:
    """The CSS class that colours the marks of a variant."""
    return f"v{number % len(VARIANTS)}"


def properties(dark: bool) -> str:
    """`--page: #fff; ...` for one of the two themes."""
    return "".join(f"--{name}:{pair[dark]};" for name, pair in NAMED.items()) + (
        f"color-scheme:{'dark' if dark else 'light'};"
    )


def resolved(css: str, dark: bool = False) -> str:
    """`css` with every `var(--name)` replaced by the colour of a theme."""
    return re.sub(r"var\(--([\w-]+)\)", lambda match: NAMED[match[1]][dark], css)
