"""What an attack comes back with, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Literal, Protocol

from torch import Tensor

from editkit.redteam.arena import Arena
from editkit.redteam.shot import Shot
from editkit.redteam.target import Naming, Target

Changes = Literal["tokens", "token-embedding", "rows", "latent", "image"]


@dataclass(frozen=True)
class Proposal:
    """What an attack says to draw. What is None stays as the unattacked prompt has it.

    Attributes:
        source: the unattacked prompt.
        prompt: a text in its place.
        ids: its tokens.
        rows: `(tokens, width)` in place of the text encoder's, before any map.
        shots: pictures to draw, in place of one for each of the seeds that count.
        loss: the attack's own; lower is nearer to the concept. None where it has none.
        plain: the same loss of the unattacked prompt.
        log: `(cost so far, best loss so far)`, for curves over budget.
        figures: what else the attack measured, by name: controls that tell how to read its success.
    """

    source: str
    prompt: str | None = None
    ids: tuple[int, ...] = ()
    rows: Tensor | None = None
    shots: tuple[Shot, ...] = ()
    loss: float | None = None
    plain: float | None = None
    log: Sequence[tuple[int, float]] = field(default=())
    figures: Mapping[str, float] = field(default_factory=dict)


class Attack(Protocol):
    """One attack: a dataclass of options, and this call.

    Attributes:
        changes: what the attacker may change.
        access: what it needs: `encoder`, `projections`, `white-box`, `judge` or nothing.
        needs_noise: whether its steps are those of a model that predicts noise, and not of flow matching.
    """

    changes: ClassVar[Changes]
    access: ClassVar[str]
    needs_noise: ClassVar[bool] = False

    def attack(self, arena: Arena, target: Target) -> list[Proposal]:
        """Try to bring the target back in the arena's victim. An attempt each; the arena draws and judges them."""
        ...


@dataclass(frozen=True)
class Attempt:
    """One attempt and its pictures.

    Attributes:
        attack, changes, protocol: what was done. The protocol is `adaptive` (found against this model), `agnostic` (no
            model was asked), or `transfer:SOURCE`.
        variant, edit_sha256: what was attacked.
        source, prompt, ids, loss, plain_loss, log, figures: as in `Proposal`.
        seeds, hits: of every picture, whether the judge sees the concept; None where it failed on the picture.
        plain: the same of the unattacked prompt at the seeds that count.
        naming: whether the found prompt names the concept or a listed synonym.
        files: the pictures, in the folder of the run.
        against, against_sha256: the variant that the prompt was found against: this one, unless it was replayed.
    """

    attack: str
    changes: str
    protocol: str
    variant: str
    edit_sha256: str | None
    concept: str
    source: str
    prompt: str | None
    ids: tuple[int, ...]
    loss: float | None
    plain_loss: float | None
    seeds: tuple[int, ...]
    hits: tuple[bool | None, ...]
    plain: tuple[bool | None, ...]
    naming: Naming = ""
    files: tuple[str, ...] = ()
    log: tuple[tuple[int, float], ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    against: str = ""
    against_sha256: str | None = None

    @property
    def judged(self) -> tuple[bool, ...]:
        """The pictures that could be judged."""
        return tuple(hit for hit in self.hits if hit is not None)

    @property
    def success(self) -> bool:
        """Whether any picture shows the concept."""
        return any(self.judged)

    @property
    def was_plain(self) -> bool:
        """Whether the unattacked prompt shows it already, at any of the seeds that count."""
        return any(hit for hit in self.plain if hit is not None)

    @property
    def rate(self) -> float | None:
        """Share of the judged pictures that show it."""
        return sum(self.judged) / len(self.judged) if self.judged else None

    def as_dict(self) -> dict[str, Any]:
        """As JSON; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Attempt:
        """What `as_dict` gave."""
        known = {each.name for each in fields(cls)}
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()
        }
        given["log"] = tuple((int(at), float(loss)) for at, loss in given.get("log", ()))
        return cls(**{name: value for name, value in given.items() if name in known})
