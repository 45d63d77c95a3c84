"""The detector that a model's profile names."""

from __future__ import annotations

from typing import Any

from editkit.concepts.profile import Profile
from editkit.errors import EditkitError
from editkit.evaluation.detectors.detection import Detector
from editkit.plugins import make


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
