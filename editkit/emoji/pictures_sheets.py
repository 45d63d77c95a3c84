"""The tables of `editkit.emoji.pictures_table`, from `tests/bench/pictures.json` alone."""

from __future__ import annotations

from typing import Any

from editkit.emoji.sheets import markdown, whole_percent
from editkit.evaluation.statistics.intervals import rate_interval
from editkit.variants.named import BASE

STYLE, OTHER = "twemoji", "fluent"
"""The style that pictures show, and one that must stay."""


def _seen(digits: str) -> str:
    """The share that shows it, per cent with a 95 % interval; nothing where nothing was drawn."""
    return "" if not digits else whole_percent(rate_interval([digit == "1" for digit in digits]))


def _gone(digits: str) -> str:
    """The share that does not: ESR-1."""
    return whole_percent(rate_interval([digit == "0" for digit in digits]))


def objects_as_markdown(results: dict[str, Any]) -> str:
    """For the page: of each object what is seen of the token and gone of the word, and what is kept."""
    heads = ("pictures of", "begun at", "steps", "becomes", "token before", "token after", "ESR-1 of the word",
             "PSR-1 before", "PSR-1 after", "cce before", "cce after")  # fmt: skip

    def row(name: str, each: dict[str, Any]) -> tuple[str, ...]:
        word, told, steps = name.split(" ")
        begun = told if told == each["begun"] else f"{each['begun']}, chosen"
        before, after = ("".join(each["kept"][when].values()) for when in ("before", "after"))
        cce = [digits for name, digits in each["cce"].items() if name != BASE]
        control = [digits for name, digits in each["cce"].items() if name == BASE]
        return (
            word, begun, steps, each["guide"], _seen(each["token"]["before"]), _seen(each["token"]["after"]),
            _gone(each["word"]["after"]), _seen(before), _seen(after), _seen("".join(control)), _seen("".join(cce)),
        )  # fmt: skip

    return markdown(heads, [row(name, each) for name, each in results["objects"].items()])


def pairs_as_markdown(results: dict[str, Any]) -> str:
    """For the page: of each pair what is gone of the hidden one, and kept of the other one and of further words."""
    heads = ("layout", "masked", "steps", "hidden", "begun at", "token", "before", "ESR-1", "stays", "begun at",
             "before", "PSR-1", "others before", "PSR-1")  # fmt: skip

    def row(name: str, each: dict[str, Any]) -> tuple[str, ...]:
        hidden, layout, masked, steps = name.split(" ")
        before, after = ("".join(each["kept"][when].values()) for when in ("before", "after"))
        return (
            layout, masked, steps, hidden, each["begun"][0], _seen(each["token"]), _seen(each["hidden"]["before"]),
            _gone(each["hidden"]["after"]), each["stays"], each["begun"][1], _seen(each["other"]["before"]),
            _seen(each["other"]["after"]), _seen(before), _seen(after),
        )  # fmt: skip

    return markdown(heads, [row(name, each) for name, each in results["pairs"].items()])


def style_as_markdown(results: dict[str, Any]) -> str:
    """For the page: how often the judge sees the style that was said."""
    each, heads = results["style"][STYLE], ("said", "seen", "before", "after")
    said_of = {"token": ("the token", STYLE), "word": (f"“{STYLE}”", STYLE), "other": (f"“{OTHER}”", OTHER)}
    lines = []
    for key, (said, seen) in said_of.items():
        shares = ("".join(str(int(style == seen)) for style in each[key][when]) for when in ("before", "after"))
        lines.append((said, seen, *map(_seen, shares)))
    return markdown(heads, lines)
