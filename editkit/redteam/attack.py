"""`editkit attack`: what brings an erased concept back. The protocol of an attack, and the command's function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from editkit.concepts.profile import ProfileOrFile
from editkit.concepts.templates import check_concepts
from editkit.edits.edit import Edit
from editkit.errors import EditkitError
from editkit.model.editable import EditableModel, ModelLike, open_model
from editkit.options import checked_names
from editkit.plugins import GROUPS, load
from editkit.variants.edit_file import load_linear
from editkit.variants.fit import check_fit


@dataclass(frozen=True)
class Finding:
    """What one attack did to one concept.

    Attributes:
        changes: what the attacker may change: `tokens`, `token-embedding`, `rows`, `latent` or `image`.
        protocol: `adaptive` where it was found against this edit.
        missed: share of the concept's keys and values that the edited model still lacks under attack, in size; 0 is all
            of it back.
        control: the same against the unedited model, which tells what the attack can do at all.
        plain: the same without an attack.
        cost: what it took: encodings, passes, seconds.
    """

    attack: str
    concept: str
    changes: str
    protocol: str
    missed: float
    control: float
    plain: float
    cost: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


class Attack(Protocol):
    """One attack: a dataclass of options with `changes`, and this call."""

    changes: ClassVar[str]

    def attack(self, model: EditableModel, edit: Edit, concept: str) -> Finding:
        """Try to bring `concept` back in `model` under `edit`."""
        ...


def attack(
    edit: Edit | Path | str,
    concepts: Sequence[str] = (),
    attacks: Sequence[str] = (GROUPS["attacks"].default,),
    model: ModelLike = None,
    profile: ProfileOrFile | None = None,
    **given: Any,
) -> list[Finding]:
    """Try to bring back what an edit erased, with each of `attacks`. No picture is drawn.

    Args:
        edit: an edit or its file. The model is attacked with it, never without.
        concepts: default: those that the edit erases.
        attacks: names of `editkit.attacks()`.
        model: as `open_model` takes it, or what it returns.
        profile: what the model brings along, or a file that says it.
        given: options of the attacks; each takes its own.

    Raises:
        EditkitError: the edit does not fit the model, no attack has that name, or none has that option.

    >>> from editkit.erasure.erase import erase
    >>> (finding,) = attack(erase("emoji", ["church"]), model="emoji")
    >>> finding.concept, finding.control < finding.missed < finding.plain
    ('church', True)
    """
    opened = open_model(model, profile=profile)
    read = edit if isinstance(edit, Edit) else load_linear(edit)
    check_fit(read, opened)
    concepts = list(concepts) or list(read.record.get("concepts", ()))
    check_concepts(concepts)
    if not attacks:
        raise EditkitError(f"no attack given; name at least one of {', '.join(GROUPS['attacks'].own)}")
    made = _made(attacks, given)
    return [one.attack(opened, read, concept) for one in made for concept in concepts]


def _made(names: Sequence[str], given: dict[str, Any]) -> list[Attack]:
    """The attacks, each with those of the given options that it has; one that none has is refused."""
    kinds = {name: load("attacks", name) for name in names}
    given = {option: value for option, value in given.items() if value is not None}
    for option in given:
        if not any(option in kind.__dataclass_fields__ for kind in kinds.values()):
            checked_names(kinds[names[0]], {option: None}, f"attack {names[0]}")
    return [
        kind(**{option: value for option, value in given.items() if option in kind.__dataclass_fields__})
        for kind in kinds.values()
    ]
