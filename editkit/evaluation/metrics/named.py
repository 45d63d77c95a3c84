"""Metrics by name: the component, then its options in order, as in `esr-5` and `ner-eight-0.6`."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from editkit.errors import EditkitError
from editkit.evaluation.metrics.metric import Kit, Metric, TargetShares
from editkit.options import options_of
from editkit.plugins import load, loadable, names


def check_metric(name: str, target: TargetShares) -> Metric:
    """The metric of that name, without its weights.

    The longest component whose name begins `name` makes it; what follows are its options, with `-` between them. The
    last option takes the rest, whatever is in it.

    Raises:
        EditkitError: no component begins it, an option cannot have its value, or the suite does not say what it needs.

    >>> check_metric("esr-5", TargetShares())
    ESR(k=5)
    """
    fitting = [known for known in names("metrics") if name == known or name.startswith(f"{known}-")]
    if not fitting:
        known = ", ".join(kind.usage() for kind in loadable("metrics").values())
        raise EditkitError(f"metric {name!r}: {_hint(name)}expected one of {known}; `editkit metrics` describes them")
    component = max(fitting, key=len)
    kind = load("metrics", component)
    made = kind(**_values(name, component, kind))
    if made.called != component:
        raise EditkitError(f"metric {component}: its class calls it {made.called!r}; say `called = {component!r}`")
    made.check(target)
    return made


def metric(name: str, kit: Kit | None = None) -> Metric:
    """The metric of that name, with its weights.

    Raises:
        EditkitError: as `check_metric`; or weights are not where they should be.
    """
    kit = kit or Kit()
    return check_metric(name, kit.target).prepare(kit)


def weight_names() -> list[str]:
    """The weights that any metric looks for, as `--weights` names them."""
    return sorted({weight for kind in loadable("metrics").values() for weight in kind.needs_weights})


def _values(name: str, component: str, kind: type[Metric]) -> dict[str, Any]:
    """The options that the rest of a name gives."""
    options = options_of(kind)
    texts = [] if name == component else name[len(component) + 1 :].split("-", max(len(options) - 1, 0))
    if len(texts) > len(options) or any(known.required for known in options[len(texts) :]):
        raise EditkitError(f"metric {name!r}: expected {kind.usage()}")
    given = {}
    for known, text in zip(options, texts, strict=False):
        what = f"metric {name!r}, {known.name.upper()}"
        try:
            given[known.name] = known.parse(text, what)
            known.check(given[known.name], what)
        except EditkitError as error:
            raise EditkitError(f"{error}; it is written {kind.usage()}") from error
    return given


def _hint(name: str) -> str:
    near = get_close_matches(name.partition("-")[0], names("metrics"), 1, cutoff=0.7)
    return f"did you mean {near[0]}? " if near else ""
