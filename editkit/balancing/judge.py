"""Who looks at the pictures that are balanced, and what it may say of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from editkit.concepts.attributes import Attribute
from editkit.concepts.profile import Profile
from editkit.errors import EditkitError
from editkit.evaluation.detectors.detection import Detection, Detector
from editkit.evaluation.detectors.judge import chosen_judge
from editkit.evaluation.metrics.metric import Kit
from editkit.plugins import make


def labels_of(profile: Profile, judge: Detector, concept: str) -> tuple[str, ...]:
    """What the profile's own judge calls a concept; of another judge nobody knows."""
    own = profile.judge
    is_own = own is not None and judge.name.split(":")[0] == own.name
    return profile.labels_of(concept) if is_own else ()


def judge_of(
    profile: Profile, detector: str | None, attributes: Sequence[Attribute], weights: Mapping[str, Path]
) -> Detector:
    """The detector of that name, or the profile's judge.

    Args:
        weights: `clip` and `detector`, where they are not in the usual place.

    Raises:
        EditkitError: there is none, or its weights are not where they should be.
    """
    own = profile.judge
    if (detector or (own and own.name)) == "clip-zero-shot":
        labels = [value for each in attributes for value in each.seen]
        return make("detectors", "clip-zero-shot", labels=list(dict.fromkeys(labels)), folder=Kit(weights=weights).clip)
    judge = chosen_judge(profile, detector or "", **({"weights": weights["detector"]} if "detector" in weights else {}))
    if judge is None:
        raise EditkitError(
            "nobody judges the pictures of this model; give --detector, such as clip-zero-shot with --weights clip=DIR"
        )
    return judge


def shows(detection: Detection, attribute: Attribute) -> bool:
    """Whether the judge says all of an attribute: of its attributes, or as its first label.

    Raises:
        EditkitError: the picture could not be judged. Count `error` first.
    """
    said = {value.casefold() for value in detection.attributes.values()}
    return all(value.casefold() in said or detection.sees(value) for value in attribute.seen)


def check_judge(judge: Detector, attributes: Sequence[Attribute]) -> None:
    """Refuse an attribute that the judge never says: no picture would count as it.

    Raises:
        EditkitError: naming the nearest that it says.
    """
    known = sayings(judge)
    lower = {value.casefold() for value in known}
    for each in attributes:
        for value in each.seen:
            if known and value.casefold() not in lower:
                near = get_close_matches(value, known, 3)
                hint = f"did you mean {' or '.join(near)}? " if near else ""
                raise EditkitError(
                    f"attribute {each.name!r}: detector {judge.name} never says {value!r}; {hint}it says "
                    f"{', '.join(known[:8])}{', ...' if known[8:] else ''}"
                )


def sayings(judge: Detector) -> list[str]:
    """What a judge may say of a picture, what it says beside the label first; empty where it does not tell."""
    labels = getattr(judge, "labels", None)
    if isinstance(labels, dict):  # heads of their own for each attribute
        values = [value for name, some in labels.items() if name != "concept" for value in some]
        return list(dict.fromkeys([*values, *labels.get("concept", ())]))
    return [] if labels is None else list(labels)
