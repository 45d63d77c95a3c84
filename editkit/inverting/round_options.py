"""How thoroughly `stereo` searches before it erases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from editkit.errors import EditkitError
from editkit.options import Checked, flag, option, options_of

STEREO = "stereo"


@dataclass(frozen=True)
class RoundOptions(Checked):
    """The rounds of `--objective stereo`: erase by `esd`, then learn a token that brings the concept back.

    Our notes on the paper give none of these numbers.

    >>> RoundOptions().rounds
    2
    """

    rounds: int = option(2, "Rounds that look for tokens. 0: only those that --picture gives.", at_least=0)
    erase_steps: int = option(200, "Steps of `esd` in a round.", at_least=1)
    learn_steps: int = option(500, "Steps in which a round learns a token of each concept, at most.", at_least=1)
    learn_pictures: int = option(8, "Pictures of each concept, drawn by the original model, to learn from.", at_least=1)

    @property
    def record(self) -> dict[str, Any]:
        """What is written down of it."""
        return asdict(self)


def rounds_of(objective: str, given: Mapping[str, Any]) -> tuple[RoundOptions | None, dict[str, Any]]:
    """The rounds of an objective, and what of `given` is not about them. None counts as not given.

    Raises:
        EditkitError: rounds are told to an objective that has none.

    >>> rounds_of("stereo", {"rounds": 3, "rate": 0.1})
    (RoundOptions(rounds=3, erase_steps=200, learn_steps=500, learn_pictures=8), {'rate': 0.1})
    >>> rounds_of("esd", {"rate": 0.1})
    (None, {'rate': 0.1})
    """
    given = {name: value for name, value in given.items() if value is not None}
    own = {known.name: given.pop(known.name) for known in options_of(RoundOptions) if known.name in given}
    if objective == STEREO:
        return RoundOptions(**own), given
    if own:
        raise EditkitError(f"{flag(next(iter(own)))}: --objective {objective} has no rounds; use --objective {STEREO}")
    return None, given
