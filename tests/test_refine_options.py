"""The options of a run: bounds, defaults of objectives and recipes, and whose they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import editkit
from editkit.concepts.profile import DEFAULT
from editkit.options import options_of
from editkit.plugins import names
from editkit.tuning.objectives import AUTHORS, OBJECTIVES
from editkit.tuning.options import RefineOptions, known_options
from editkit.tuning.search.gumbel import Gumbel


def test_options_are_checked() -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"refresh": 0}, "--refresh: expected a whole number of at least 1, got 0"),
        (
            {"objective": "sgd"},
            r"objective 'sgd': did you mean esd\? known are aegis, age, ap, ca, debias, debias-age, esd, fmn, hide, ",
        ),
        ({"search": "random"}, "search 'random': known are closed-form, exact, gumbel"),
        ({"steps": 0}, "--steps: expected a whole number of at least 1, got 0"),
        ({"rate": 0.0}, "--rate: expected a finite number above 0, got 0.0"),
        ({"recipe": "mine"}, "--recipe: must be one of paper, authors, but got 'mine'"),
        ({"mixed_precision": "fp8"}, "--mixed-precision: must be one of no, bf16, fp16, but got 'fp8'"),
        ({"key_tokens": 0}, "--tokens: expected a whole number of at least 1, got 0"),
        ({"batch": 3, "accumulate": 2}, "--accumulate: 2 parts do not divide a batch of 3"),
    ]
    for given, said in cases:
        with pytest.raises(editkit.EditkitError, match=said):
            replace(RefineOptions(), **given)
        with pytest.raises(editkit.EditkitError, match=said):
            RefineOptions.of(**given)


def test_an_option_of_another_search_is_refused() -> None:
    with pytest.raises(editkit.EditkitError, match="--tau: search exact has no such option; its options: "):
        RefineOptions.of(search="exact", tau=1.0)
    with pytest.raises(editkit.EditkitError, match="--ratte: search gumbel has no such option"):
        RefineOptions.of(ratte=1.0)


@pytest.mark.parametrize("objective", names("objectives"))
def test_every_way_to_say_nothing_gives_the_same_options(objective: str) -> None:
    """The class, `of`, the record read back, and what the flags show."""
    options = RefineOptions(objective)
    assert options == RefineOptions.of(objective) == RefineOptions.of(objective, DEFAULT)
    record = options.record
    assert RefineOptions.of(**record) == options
    shown = {known.name: known for known in (*known_options([objective]), *options_of(options.search))}
    assert shown.keys() == record.keys()
    case = f"--objective {objective}"
    assert {**record, "objective": "ap"} == {
        name: known.otherwise.get(case, known.default) for name, known in shown.items()
    }


def test_the_authors_recipe_searches_as_their_scripts_do() -> None:
    """One Adam step of 0.01 a word, among clusters; and `ap` has the target of `esd`."""
    options = RefineOptions(recipe="authors")
    assert options == RefineOptions.of(recipe="authors")
    assert options.spread and options.search == Gumbel(search_steps=1, search_rate=1e-2, search_adam=True)
    assert options.loss is AUTHORS["ap"] and RefineOptions("esd", recipe="authors").loss is OBJECTIVES["esd"]
    assert RefineOptions.of(recipe="authors", spread=False, search_steps=4).record.items() >= {
        "spread": False, "search_steps": 4, "search_rate": 1e-2,
    }.items()  # fmt: skip
