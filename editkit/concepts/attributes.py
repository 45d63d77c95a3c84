"""What a concept is balanced across: how a prompt asks for it, what the judge calls it, and how much is wanted."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from editkit.concepts.templates import fill
from editkit.errors import EditkitError

KEYS = ("name", "ratio", "phrase", "seen")
SUM = 1e-6
"""How far ratios may be from summing to one."""


@dataclass(frozen=True)
class Attribute:
    """One share of a concept's pictures.

    Attributes:
        name: as tables call it.
        phrase: how a prompt asks for it, "man {}": `{}` is the concept.
        seen: what the judge must say of a picture, all of it.
        ratio: the share that is wanted, above 0 and below 1.
    """

    name: str
    phrase: str
    seen: tuple[str, ...]
    ratio: float = math.nan

    @classmethod
    def of(cls, text: str) -> Attribute:
        """From a word that the judge says, or several with commas.

        >>> Attribute.of("man, dark")
        Attribute(name='man dark', phrase='man dark {}', seen=('man', 'dark'), ratio=nan)
        """
        seen = tuple(filter(None, (part.strip() for part in text.split(","))))
        if not seen:
            raise EditkitError(f"--attribute {text!r}: expected what the judge says of a picture, such as man; name it")
        name = " ".join(seen)
        return cls(name, f"{name} {{}}", seen)

    def prompt(self, concept: str) -> str:
        """The concept with the attribute.

        >>> Attribute("old", "{} with gray hair", ("old",)).prompt("cook")
        'cook with gray hair'
        """
        return fill(self.phrase, concept)


def attributes_of(
    named: Sequence[str | Attribute], ratios: Sequence[float] | None, concepts: Sequence[str]
) -> tuple[Attribute, ...]:
    """The attributes with what is wanted of each; without `ratios` and ratios of their own, all alike.

    Raises:
        EditkitError: there is one alone, one twice, or one that is a concept; or ratios that are not shares of one.
    """
    made = [each if isinstance(each, Attribute) else Attribute.of(each) for each in named]
    if len(made) < 2:
        got = made[0].name if made else "none"
        raise EditkitError(
            f"--attribute: expected two or more to balance between, got {got}; name {'another' if made else 'them'}"
        )
    names = [each.name.casefold() for each in made]
    for n, name in enumerate(names):
        if name in names[:n]:
            raise EditkitError(f"--attribute {made[n].name}: named twice; name it once")
        if name in [concept.strip().casefold() for concept in concepts]:
            raise EditkitError(
                f"--attribute {made[n].name}: also given as a concept; a concept is balanced across others"
            )
    given = ratios if ratios is not None else [each.ratio for each in made]
    if all(math.isnan(ratio) for ratio in given) and given:
        given = [1 / len(made)] * len(made)
    if len(given) != len(made):
        raise EditkitError(
            f"--ratios: expected one for each of {len(made)} attributes ({', '.join(each.name for each in made)}), got "
            f"{len(given)}"
        )
    for each, ratio in zip(made, given, strict=True):
        if math.isnan(ratio):
            raise EditkitError(f"attribute {each.name!r}: has no ratio, and others have; give each its own, or none")
        if not 0 < ratio < 1:
            raise EditkitError(f"--ratios: expected shares above 0 and below 1, got {ratio:g} for {each.name}")
    if abs(sum(given) - 1) > SUM:
        raise EditkitError(f"--ratios: expected shares that sum to 1, got {sum(given):g}; mend one of them")
    return tuple(replace(each, ratio=float(ratio)) for each, ratio in zip(made, given, strict=True))


def read_attributes(path: Path) -> list[Attribute]:
    """The attributes of a TOML file, `[[attribute]]` each with `name` and, where they are not what `Attribute.of` would
    make of it, `phrase`, `seen` and `ratio`.

    Raises:
        EditkitError: no such file, or what in it is not as it should be.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EditkitError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise EditkitError(f"{path}: is no TOML file ({error})") from error
    entries = raw.get("attribute")
    if not isinstance(entries, list) or set(raw) != {"attribute"}:
        raise EditkitError(f"{path}: expected [[attribute]] tables and nothing else, each with a name")
    return [_read(path, n, entry) for n, entry in enumerate(entries, 1)]


def _read(path: Path, number: int, entry: dict[str, Any]) -> Attribute:
    where = f"{path}, attribute {number}"
    for key in entry:
        if key not in KEYS:
            raise EditkitError(f"{where}: has no {key!r}; expected {', '.join(KEYS)}")
    name, phrase, seen, ratio = (entry.get(key) for key in ("name", "phrase", "seen", "ratio"))
    if not isinstance(name, str) or not name.strip():
        raise EditkitError(f"{where}: expected a name, got {name!r}")
    usual = Attribute.of(name)
    if phrase is not None and (not isinstance(phrase, str) or phrase.count("{}") != 1):
        raise EditkitError(f"{where}: expected a phrase with one '{{}}' where the concept goes, got {phrase!r}")
    if seen is not None:
        seen = [seen] if isinstance(seen, str) else seen
        if not isinstance(seen, list) or not seen or not all(isinstance(value, str) for value in seen):
            raise EditkitError(f"{where}: expected in `seen` what the judge says, got {seen!r}")
    if ratio is not None and (isinstance(ratio, bool) or not isinstance(ratio, int | float)):
        raise EditkitError(f"{where}: expected a number as ratio, got {ratio!r}")
    return Attribute(
        usual.name, phrase or usual.phrase, usual.seen if seen is None else tuple(seen),
        math.nan if ratio is None else float(ratio),
    )  # fmt: skip
