"""`metric("esr-5")`: the metrics by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from editkit.errors import EditkitError
from editkit.numbers.metrics.debias import AttributeShare, Deviation
from editkit.numbers.metrics.exposure import PROTOCOLS, Exposure
from editkit.numbers.metrics.metric import Metric
from editkit.numbers.metrics.sensitivity import Sensitivity
from editkit.numbers.metrics.success import ErasingSuccess, PreservingSuccess, SubjectSuccess


@dataclass(frozen=True)
class Wanted:
    """What a suite wants of an attribute: `gender`, `{woman: 0.5, man: 0.5}`."""

    attribute: str = ""
    shares: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Family:
    """Metrics whose names follow a pattern."""

    pattern: str
    usage: str
    make: Callable[[re.Match[str], Wanted], Metric]


def _share(found: re.Match[str], wanted: Wanted) -> Metric:
    _wanted_share(found, wanted)
    return AttributeShare(wanted.attribute, found[1])


def _wanted_share(found: re.Match[str], wanted: Wanted) -> float:
    shares = wanted.shares or {}
    if found[1] not in shares:
        known = ", ".join(shares) or "none"
        raise EditkitError(f"metric {found[0]!r}: expected a value under [debias.wanted] of the suite ({known})")
    return shares[found[1]]


FAMILIES = (
    Family(r"esr-([1-9]\d*)", "esr-K", lambda found, _: ErasingSuccess(int(found[1]))),
    Family(r"psr-([1-9]\d*)", "psr-K", lambda found, _: PreservingSuccess(int(found[1]))),
    Family(r"subject-([1-9]\d*)", "subject-K", lambda found, _: SubjectSuccess(int(found[1]))),
    Family(
        rf"ner-({'|'.join(PROTOCOLS)})-(0(?:\.\d+)?)",
        f"ner-PROTOCOL-THRESHOLD ({', '.join(PROTOCOLS)}; 0 to 1)",
        lambda found, _: Exposure(found[1], float(found[2])),
    ),
    Family(r"share-(.+)", "share-VALUE", _share),
    Family(
        r"deviation-(.+)",
        "deviation-VALUE",
        lambda found, wanted: Deviation(wanted.attribute, found[1], _wanted_share(found, wanted)),
    ),
    Family(r"sensitivity-(erase|keep)", "sensitivity-erase, sensitivity-keep", lambda found, _: Sensitivity(found[1])),
)


def metric(name: str, wanted: Wanted | None = None) -> Metric:
    """The metric of that name.

    Raises:
        EditkitError: there is none, or it needs what the suite does not say.
    """
    for family in FAMILIES:
        found = re.fullmatch(family.pattern, name)
        if found:
            return family.make(found, wanted or Wanted())
    raise EditkitError(f"metric {name!r}: expected one of {'; '.join(family.usage for family in FAMILIES)}")
