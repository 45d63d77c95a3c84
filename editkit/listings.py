"""What can be plugged in, as lists: each function is the command of the same name."""

from __future__ import annotations

from editkit.plugins import Component, describe


def methods() -> list[Component]:
    """The closed-form methods of `erase` and `edit`, with their options.

    >>> [method.name for method in methods()]
    ['cure', 'dp', 'oce', 'rece', 'speed', 'time', 'uce']
    """
    return describe("methods")


def detectors() -> list[Component]:
    """Who can look at pictures, with their options."""
    return describe("detectors")


def metrics() -> list[Component]:
    """What can be counted, with the options that a metric's name spells."""
    return describe("metrics")


def objectives() -> list[Component]:
    """What the gradient stages train towards."""
    return describe("objectives")


def searches() -> list[Component]:
    """How a gradient stage looks for the concept that suffers most, with their options."""
    return describe("searches")


def attacks() -> list[Component]:
    """What can try to bring an erased concept back, with their options."""
    return describe("attacks")


def formats() -> list[Component]:
    """What `export` can write, with their options."""
    return describe("formats")


def families() -> list[Component]:
    """The model families that are known."""
    return describe("families")


def pipelines() -> list[Component]:
    """The kinds of pipelines that are drawn."""
    return describe("pipelines")


def guards() -> list[Component]:
    """What can lead away from concepts while a picture is drawn.

    >>> [guard.name for guard in guards()]
    ['negative', 'sld']
    """
    return describe("guards")


def stages() -> list[Component]:
    """The kinds of stages that a recipe can have, with what each may say."""
    return describe("stages")
