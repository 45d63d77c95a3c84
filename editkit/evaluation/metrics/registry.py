"""`metric("esr-5")`: the metrics by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from editkit.errors import EditkitError
from editkit.evaluation.metrics.debias import AttributeShare, Deviation
from editkit.evaluation.metrics.exposure import PROTOCOLS, Exposure
from editkit.evaluation.metrics.metric import Metric
from editkit.evaluation.metrics.sensitivity import Sensitivity
from editkit.evaluation.metrics.success import ErasingSuccess, PreservingSuccess, SubjectSuccess

CLIP_FOLDER = "clip-vit-large-patch14"
"""Where CLIP is looked for beside torchvision's downloads, unless the user names a folder."""


@dataclass(frozen=True)
class Wanted:
    """What a suite wants of an attribute: `gender`, `{woman: 0.5, man: 0.5}`."""

    attribute: str = ""
    shares: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Kit:
    """What metrics are made with.

    Attributes:
        weights: `clip`, `inception`, `lpips`, `lpips-linear` → where the user has them, if not in the usual place.
        reference: a folder of pictures for the Fréchet distance; None compares with the unedited model.
    """

    wanted: Wanted = field(default_factory=Wanted)
    weights: Mapping[str, Path] = field(default_factory=dict)
    reference: Path | None = None


@dataclass(frozen=True)
class Family:
    """Metrics whose names follow a pattern."""

    pattern: str
    usage: str
    make: Callable[[re.Match[str], Kit], Metric]


def check_metric(name: str, wanted: Wanted) -> tuple[Family, re.Match[str]]:
    """The family of a metric's name, without its weights.

    Raises:
        EditkitError: there is none, or it needs what the suite does not say.
    """
    for family in FAMILIES:
        found = re.fullmatch(family.pattern, name)
        if found is None:
            continue
        if family.usage.endswith("VALUE") and found[1] not in wanted.shares:
            known = ", ".join(wanted.shares) or "none"
            raise EditkitError(f"metric {name!r}: expected a value that [debias.wanted] of the suite names ({known})")
        return family, found
    raise EditkitError(f"metric {name!r}: expected one of {'; '.join(family.usage for family in FAMILIES)}")


def metric(name: str, kit: Kit | None = None) -> Metric:
    """The metric of that name, with its weights.

    Raises:
        EditkitError: as `check_metric`; or weights are not where they should be.
    """
    kit = kit or Kit()
    family, found = check_metric(name, kit.wanted)
    return family.make(found, kit)


def _share(found: re.Match[str], kit: Kit) -> Metric:
    return AttributeShare(kit.wanted.attribute, found[1])


def _deviation(found: re.Match[str], kit: Kit) -> Metric:
    return Deviation(kit.wanted.attribute, found[1], kit.wanted.shares[found[1]])


def _alignment(found: re.Match[str], kit: Kit) -> Metric:
    from editkit.evaluation.metrics.alignment import Alignment
    from editkit.evaluation.networks.clip import load_clip
    from editkit.evaluation.networks.clip_score import ClipScore

    return Alignment(found[1], ClipScore(load_clip(clip_folder(kit.weights))))


def _nearness(found: re.Match[str], kit: Kit) -> Metric:
    from editkit.evaluation.metrics.nearness import Nearness
    from editkit.evaluation.networks.clip import load_clip

    return Nearness(found[1], None if found[2] else load_clip(clip_folder(kit.weights)))


def _distance(found: re.Match[str], kit: Kit) -> Metric:
    from editkit.evaluation.metrics.change import PerceptualDistance
    from editkit.evaluation.networks.lpips import load_lpips

    return PerceptualDistance(found[1], load_lpips(kit.weights.get("lpips"), kit.weights.get("lpips-linear")))


def _frechet(found: re.Match[str], kit: Kit) -> Metric:
    from editkit.evaluation.metrics.frechet import Frechet
    from editkit.evaluation.networks.fid import load_feature_set

    if found[0] == "fid-emoji":
        return Frechet(found[0], load_feature_set("emoji-judge"), kit.reference)
    options = {"weights": kit.weights["inception"]} if "inception" in kit.weights else {}
    return Frechet(found[0], load_feature_set("inception", **options), kit.reference)


def clip_folder(weights: Mapping[str, Path]) -> Path:
    """The user's CLIP, or the usual place."""
    from editkit.evaluation.networks.weights import usual_path

    return weights.get("clip") or usual_path(CLIP_FOLDER)


FAMILIES = (
    Family(r"esr-([1-9]\d*)", "esr-K", lambda found, _: ErasingSuccess(int(found[1]))),
    Family(r"psr-([1-9]\d*)", "psr-K", lambda found, _: PreservingSuccess(int(found[1]))),
    Family(r"subject-([1-9]\d*)", "subject-K", lambda found, _: SubjectSuccess(int(found[1]))),
    Family(
        rf"ner-({'|'.join(PROTOCOLS)})-(0(?:\.\d+)?)",
        f"ner-PROTOCOL-THRESHOLD with PROTOCOL {', '.join(PROTOCOLS)} and THRESHOLD from 0 to 1",
        lambda found, _: Exposure(found[1], float(found[2])),
    ),
    Family(r"sensitivity-(erase|keep)", "sensitivity-erase, sensitivity-keep", lambda found, _: Sensitivity(found[1])),
    Family(r"clip-score-(erase|keep)", "clip-score-erase, clip-score-keep", _alignment),
    Family(r"lpips-([eud])", "lpips-e, lpips-u, lpips-d", _distance),
    Family(r"fid|fid-emoji", "fid, fid-emoji", _frechet),
    Family(r"(efficacy|generality|specificity)(-seen)?", "efficacy, generality, specificity (-seen)", _nearness),
    Family(r"share-(.+)", "share-VALUE", _share),
    Family(r"deviation-(.+)", "deviation-VALUE", _deviation),
)
