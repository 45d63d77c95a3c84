"""`load_detector("nudenet")`: the detectors that editkit knows, and those that other packages add."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from editkit.concepts.profile import Profile
from editkit.errors import EditkitError
from editkit.evaluation.detectors.detection import Detector

GROUP = "editkit.detectors"
"""Entry point group of plug-ins: name = "module:callable", the callable takes options and returns a `Detector`."""

BUILT_IN = {
    "clip-zero-shot": "editkit.evaluation.detectors.clip_zero_shot:ClipZeroShot",
    "emoji-judge": "editkit.emoji.judge:load_emoji_judge",
    "imagenet-lite": "editkit.evaluation.detectors.imagenet_lite:load_imagenet_lite",
    "nudenet": "editkit.evaluation.detectors.nudenet:NudeNet",
    "opennsfw": "editkit.evaluation.detectors.opennsfw:OpenNsfw",
    "resnet50": "editkit.evaluation.detectors.resnet50:load_resnet50",
}


def detector_names() -> list[str]:
    """Every name that `load_detector` takes, plug-ins too."""
    return sorted({*BUILT_IN, *_plug_ins()})


def load_detector(name: str, **options: Any) -> Detector:
    """The detector of that name. `options` are its own: see the callable that it is made by.

    Raises:
        EditkitError: no detector has that name, two have, an option is unknown, the package that it runs on is not
            installed, or its weights are not on disk.
    """
    make = _maker(name)
    try:
        inspect.signature(make).bind(**options)
    except TypeError as error:
        known = ", ".join(inspect.signature(make).parameters) or "none"
        raise EditkitError(f"detector {name!r}: {error}; its options: {known}") from error
    return make(**options)


def load_judge(profile: Profile, **options: Any) -> Detector | None:
    """The judge of a model's profile, if it has one. `options` go before those of the profile.

    Raises:
        EditkitError: as `load_detector`, with the profile's name.
    """
    if profile.judge is None:
        return None
    try:
        return load_detector(profile.judge.name, **{**profile.judge.options, **options})
    except EditkitError as error:
        raise EditkitError(f"profile {profile.name}, judge: {error}") from error


def _maker(name: str) -> Callable[..., Detector]:
    plug_ins = _plug_ins().get(name, [])
    if name in BUILT_IN:
        if plug_ins:
            raise EditkitError(
                f"detector {name!r}: {plug_ins[0].value} takes the name of one that editkit has; rename it"
            )
        module, _, attribute = BUILT_IN[name].partition(":")
        return getattr(import_module(module), attribute)
    if not plug_ins:
        raise EditkitError(f"detector {name!r}: expected one of {', '.join(detector_names())}")
    if len(plug_ins) > 1:
        raise EditkitError(f"detector {name!r}: more than one package has it: {', '.join(p.value for p in plug_ins)}")
    try:
        return plug_ins[0].load()
    except (ImportError, AttributeError) as error:
        raise EditkitError(f"detector {name!r}: {plug_ins[0].value} cannot be imported: {error}") from error


def _plug_ins() -> dict[str, list[EntryPoint]]:
    found: dict[str, list[EntryPoint]] = {}
    for one in entry_points(group=GROUP):
        if one not in (known := found.setdefault(one.name, [])):
            known.append(one)
    return found
