"""A recipe's matrix: stages that are repeated for every value of a word that they say, and what takes them with them.

    [matrix]
    split = ["1", "2"]

A stage in whose texts `{split}` stands is made once for each, and called `NAME-1`, `NAME-2`. So is a stage that takes
such a one by its name: it takes the one of its own value. Who names `NAME-1` itself takes that one, and is not
repeated.

>>> stages = {"gone": {"do": "erase", "split": "{split}"}, "seen": {"do": "compare", "edits": ["base", "gone-rece"]},
...           "first": {"do": "attack", "variants": ["gone-1"]}}
>>> made = repeated(stages, {"split": ["1", "2"]})
>>> list(made), made["gone-2"]["split"], made["seen-2"]["edits"], made["first"]["variants"]
(['gone-1', 'gone-2', 'seen-1', 'seen-2', 'first'], '2', ['base', 'gone-2-rece'], ['gone-1'])
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from editkit.errors import EditkitError
from editkit.files.names import file_stem
from editkit.plugins import loadable

Stages = Mapping[str, Mapping[str, Any]]


def repeated(stages: Stages, matrix: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The stages of a recipe, those that the matrix concerns once for each of its values.

    Raises:
        EditkitError: the matrix is no table of lists of texts, or no stage says one of its words.
    """
    for word, values in matrix.items():
        if not isinstance(values, list) or not values or not all(isinstance(value, str) and value for value in values):
            raise EditkitError(f'matrix.{word}: expected a list of texts, such as ["1", "2"], got {values!r}')
    axes = _axes(stages, matrix)
    unused = [word for word in matrix if not any(word in own for own in axes.values())]
    if unused:
        raise EditkitError(f"matrix.{unused[0]}: no stage says {{{unused[0]}}}; write it where the value is to stand")
    made: dict[str, dict[str, Any]] = {}
    for stage, said in stages.items():
        for values in product(*(matrix[word] for word in axes[stage])):
            point = dict(zip(axes[stage], values, strict=True))
            made[_name(stage, values)] = {
                key: _resolved(_filled(value, point), axes, point, matrix)
                if key in _takes(said)
                else _filled(value, point)
                for key, value in said.items()
            }
    return made


def _axes(stages: Stages, matrix: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Stage → the words of the matrix that it is repeated for: its own, and those of what it takes."""
    own = {stage: {word for word in matrix if any(f"{{{word}}}" in text for text in _texts(said))} for stage, said in
           stages.items()}  # fmt: skip
    for _ in stages:  # as long as a chain may be
        found = {stage: tuple(word for word in matrix if word in own[stage]) for stage in stages}
        for stage, said in stages.items():
            for text in (text for key in _takes(said) for text in _texts(said.get(key))):
                if (taken := _stage_of(text, found, matrix)) is not None:
                    own[stage] |= {*found[taken]}
    return {stage: tuple(word for word in matrix if word in own[stage]) for stage in stages}


def _stage_of(text: str, axes: Mapping[str, Sequence[str]], matrix: Mapping[str, Sequence[str]]) -> str | None:
    """The repeated stage that `text` names without saying which of its repetitions."""
    for stage in sorted(axes, key=len, reverse=True):
        if text == stage or text.startswith(f"{stage}-"):
            points = [_name(stage, values) for values in product(*(matrix[word] for word in axes[stage]))]
            is_said = any(text == point or text.startswith(f"{point}-") for point in points)
            return None if is_said or not axes[stage] else stage
    return None


def _resolved(
    value: Any, axes: Mapping[str, Sequence[str]], point: Mapping[str, str], matrix: Mapping[str, Any]
) -> Any:
    """With the repetitions of `point` in place of the stages that it names."""
    if isinstance(value, list):
        return [_resolved(each, axes, point, matrix) for each in value]
    stage = _stage_of(value, axes, matrix) if isinstance(value, str) else None
    if stage is None:
        return value
    return _name(stage, [point[word] for word in axes[stage]]) + value.removeprefix(stage)


def _name(stage: str, values: Sequence[str]) -> str:
    return "-".join([stage, *(file_stem([value]) for value in values)])


def _takes(said: Mapping[str, Any]) -> tuple[str, ...]:
    """The fields in which a stage names others; none where its kind is unknown, which is told later."""
    kinds, do = loadable("stages"), said.get("do")
    return kinds[do].takes if isinstance(do, str) and do in kinds else ()


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def _filled(value: Any, point: Mapping[str, str]) -> Any:
    """With the values of `point` in its texts."""
    if isinstance(value, str):
        for word, said in point.items():
            value = value.replace(f"{{{word}}}", said)
        return value
    if isinstance(value, list):
        return [_filled(each, point) for each in value]
    return {key: _filled(each, point) for key, each in value.items()} if isinstance(value, dict) else value
