"""The detector that a model's profile names."""

from __future__ import annotations

from typing import Any

from editkit.concepts.profile import Profile
from editkit.errors import EditkitError
from editkit.evaluation.detectors.detection import Detector
from editkit.plugins import make


def chosen_judge(profile: Profile, name: str, **options: Any) -> Detector | None:
    """The detector of that name, with the profile's options where it is the profile's judge; without a name that judge,
    and None where there is none.

    Args:
        options: go before those of the profile.

    Raises:
        EditkitError: as `editkit.plugins.make`.
    """
    if profile.judge is not None and name in ("", profile.judge.name):
        return load_judge(profile, **options)
    return make("detectors", name, **options) if name else None


def load_judge(profile: Profile, **options: Any) -> Detector | None:
    """The judge of a model's profile, if it has one. `options` go before those of the profile.

    Raises:
        EditkitError: as `editkit.plugins.make`, with the profile's name.
    """
    if profile.judge is None:
        return None
    try:
        return make("detectors", profile.judge.name, **{**profile.judge.options, **options})
    except EditkitError as error:
        raise EditkitError(f"profile {profile.name}, judge: {error}") from error
