"""Rates with intervals, seeds, templates."""

from __future__ import annotations

import pytest

from editkit.concepts.templates import fill
from editkit.drawing.prompt_file import parse_seeds
from editkit.errors import EditkitError
from editkit.evaluation.statistics.rates import Rate


def test_rates_against_published_intervals() -> None:
    """Newcombe 1998, table I: 81 of 263 and 15 of 148 by Wilson's method."""
    assert Rate(81, 263).interval == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert Rate(15, 148).interval == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert Rate(0, 20).interval == pytest.approx((0.0, 0.1611), abs=1e-4)


def test_seeds() -> None:
    assert parse_seeds("0-3,7,2") == [0, 1, 2, 3, 7]
    with pytest.raises(EditkitError, match="expected numbers and ranges such as 0-7"):
        parse_seeds("many")
    with pytest.raises(EditkitError, match="runs backwards; write 3-7"):
        parse_seeds("7-3")


def test_articles_follow_the_word() -> None:
    assert fill("a photo of a {}", "axe") == "a photo of an axe"
    assert fill("a photo of a {}", "church") == "a photo of a church"
    assert fill("{} in red", "apple") == "apple in red"
    with pytest.raises(EditkitError, match=r"expected one '\{\}'"):
        fill("a photo", "axe")
