"""`editkit ledger add`: the ledger that is there, or a new one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editkit.erasure.ledger.ledger import Ledger
from editkit.errors import EditkitError
from editkit.options import flag

if TYPE_CHECKING:
    from editkit.model.editable import ModelLike


def ledger(
    path: Path | str,
    model: ModelLike = None,
    preserve: Sequence[str] | None = None,
    synonyms: str | None = None,
    method: str | None = None,
    **options: Any,
) -> Ledger:
    """Read a ledger, or begin one where no file is there. Nothing is written: `write` of what comes back does that.

    Args:
        path: the file.
        model: as `open_model` takes it, or what it returns.
        preserve: prompts that must stay as they are.
        synonyms: as `erase` takes it.
        method: a closed-form method.
        options: of the method.

    Raises:
        EditkitError: the file is no ledger, or was begun with another model, method or option than are given.

    >>> begun = ledger("concepts.ledger", method="uce", lamb=0.01)
    >>> begun.model, begun.options["lamb"], begun.entries
    ('emoji', 0.01, ())
    """
    if not Path(path).exists():
        return Ledger.begin(model, preserve or (), synonyms, method, **options)
    read = Ledger.read(path)
    _check_agrees(read, {"synonyms": synonyms, "method": method, **options})
    if preserve is not None and {*preserve} != {*read.preserve}:
        raise _otherwise("--preserve", preserve, read.preserve)
    if model is not None and (name := _name(model)) != read.model:
        raise _otherwise("--model", name, read.model)
    return read


def _check_agrees(ledger: Ledger, given: Mapping[str, Any]) -> None:
    known = {**ledger.options, "synonyms": ledger.synonyms}
    for name, value in given.items():
        if value is not None and name not in known:
            raise EditkitError(f"{flag(name)}: method {known['method']} of the ledger has no such option; leave it out")
        if value is not None and value != known[name]:
            raise _otherwise(flag(name), value, known[name])


def _otherwise(what: str, value: Any, known: Any) -> EditkitError:
    return EditkitError(
        f"{what}: the ledger was begun with {_shown(known)}, but got {_shown(value)}; leave it out, or change the "
        "first line of the file"
    )


def _shown(value: Any) -> str:
    return str(value) if isinstance(value, str) or not isinstance(value, Sequence) else ", ".join(value) or "nothing"


def _name(model: ModelLike) -> str:
    from editkit.model.editable import open_model

    return open_model(model).source.name
