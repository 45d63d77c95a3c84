"""How many passes of the denoiser `stereo` makes, counted before any is made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from editkit.drawing.sampling import Sampling
from editkit.inverting.descent import looks_at
from editkit.inverting.options import InvertOptions
from editkit.inverting.round_options import RoundOptions
from editkit.tuning.options import RefineOptions

GUIDED = 2
"""Rows of a latent that is drawn with guidance."""


@dataclass(frozen=True)
class PlannedPasses:
    """Rows through the denoiser, at most: a restart may end before its last step.

    Attributes:
        pictures: that the original draws.
        erasing, learning: of all rounds. Where no token is the concept's last word, the search for one comes on top.
        last: the stage in which all is erased.
    """

    pictures: int
    erasing: int
    learning: int
    last: int

    @property
    def total(self) -> int:
        return self.pictures + self.erasing + self.learning + self.last

    def __str__(self) -> str:
        return (
            f"planned passes of the denoiser: {self.total:,} rows (pictures {self.pictures:,}, rounds: erasing "
            f"{self.erasing:,}, learning {self.learning:,}; then {self.last:,})"
        )


def planned_passes(
    options: RefineOptions, rounds: RoundOptions, sampling: Sampling, phrases: Sequence[int]
) -> PlannedPasses:
    """Of a run of `stereo`.

    Args:
        sampling: how the model is drawn with.
        phrases: of each concept, how many are known before: its word, and tokens.
    """
    erase = replace(options, objective="esd", steps=rounds.erase_steps)
    erasing = sum(training_rows(erase, [each + done for each in phrases]) for done in range(rounds.rounds))
    guided = GUIDED if sampling.guidance > 1 else 1
    drawn = len(phrases) * rounds.learn_pictures * sampling.steps * guided if rounds.rounds else 0
    learning = rounds.rounds * len(phrases) * learning_rows(rounds)
    return PlannedPasses(drawn, erasing, learning, training_rows(options, [each + rounds.rounds for each in phrases]))


def training_rows(options: RefineOptions, phrases: Sequence[int]) -> int:
    """Of a run that searches nothing, of so many phrases for each concept."""
    asked, loss = sum(phrases), options.loss
    targets = sum(sum(each * each for each in phrases) if key == "s" else asked for key in loss.teacher)
    student = options.steps * options.batch * len(loss.student)
    guided = GUIDED if options.guidance > 1 else 1
    if not options.bank:  # cut at a random step: at most before the last
        drawn = options.steps * options.batch * guided * (options.sampling_steps - 1)
        return student + drawn + options.steps * options.batch * (len(loss.teacher) + max(phrases) - 1)
    served = options.refresh or math.ceil(options.trajectories * options.sampling_steps * asked / options.draws)
    # A trajectory ends where its last step would begin.
    drawn = options.trajectories * (guided * asked * (options.sampling_steps - 1) + targets * options.sampling_steps)
    return student + math.ceil(options.steps / served) * drawn


def learning_rows(rounds: RoundOptions) -> int:
    """Of learning one token."""
    how, steps = InvertOptions(), rounds.learn_steps
    looks = sum(looks_at(step, steps) or step == steps - 1 for step in range(steps))
    return steps * how.points + (1 + looks) * how.held


def rows_of(rounds: RoundOptions | None) -> int:
    """Rows at a time of which tokens are learned; 0: none are."""
    return InvertOptions().points if rounds is not None and rounds.rounds else 0
