"""The threshold of a gate, from captions that the edit was not made with, and what the gate lets through."""

from __future__ import annotations

import hashlib
import random
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from editkit.concepts.profile import Profile
from editkit.concepts.templates import OBJECT_EXPANSIONS, fill
from editkit.concepts.vocabulary import single_words
from editkit.edits.edit import Edit, check_ungated
from editkit.edits.gate import Gate, least
from editkit.errors import EditkitError
from editkit.evaluation.statistics.intervals import rate_interval
from editkit.redteam.target import Target

MANY = 1000
"""Captions of the threshold from which the share of neutral prompts that open the gate hardly varies."""
CHUNK = 32
"""Prompts that are encoded at a time."""
TIMED = 50
MOST_MISSED = 20
ASKED = ("{}", "a {}", "the {}", *(template.replace("{}", "a {}") for template in OBJECT_EXPANSIONS[1:]))
"""Sentences that ask for what is erased."""


class Encodes(Protocol):
    """What a gate needs of a text encoder."""

    def encode(self, prompts: Sequence[str]) -> list[Tensor]:
        """All rows that the denoiser reads of every prompt, `(tokens, d)`."""
        ...

    def reads(self, prompt: str) -> bool:
        """Whether it is short enough to be read whole."""
        ...

    def subject_at(self, template: str, words: str) -> int:
        """Row of the last token of `words` in `fill(template, words)`."""
        ...


@dataclass(frozen=True)
class Dealt:
    """Distinct captions that name nothing erased, in three parts.

    Attributes:
        fit: say what neutral rows are like.
        threshold: say which hit is too much.
        held: say how well that works; nothing was chosen by them.
        left_out: how many name what is erased, or are too long, or the edit was made with.
        sha256: of all captions.
    """

    fit: tuple[str, ...]
    threshold: tuple[str, ...]
    held: tuple[str, ...]
    left_out: int
    sha256: str

    @classmethod
    def of(cls, captions: Sequence[str], is_neutral: Callable[[str], bool], eps: float, seed: int) -> Dealt:
        """Thirds of those that are neutral, in an order from `seed`.

        Raises:
            EditkitError: they are too few for `eps`.
        """
        distinct = sorted({caption.strip() for caption in captions} - {""})
        neutral = [caption for caption in distinct if is_neutral(caption)]
        need = 3 * least(eps)
        if len(neutral) < need:
            raise EditkitError(
                f"captions: --eps {eps:g} needs {need} that name nothing erased and that the edit was not made with, "
                f"got {len(neutral)} of {len(distinct)} distinct ones; give more, or a larger --eps"
            )
        random.Random(seed).shuffle(neutral)
        third = len(neutral) // 3
        mark = hashlib.sha256("\n".join(distinct).encode()).hexdigest()
        fit, rest = neutral[:third], neutral[third:]
        return cls(tuple(fit), tuple(rest[:third]), tuple(rest[third:]), len(distinct) - len(neutral), mark)


def calibrate(
    edit: Edit, encoder: Encodes, captions: Sequence[str], eps: float, profile: Profile, seed: int = 0
) -> Edit:
    """`edit` behind a gate that opens for at most a share `eps` of prompts like `captions`.

    Args:
        encoder: of the rows that the gate will see.
        captions: neutral ones; those that name what is erased, or that the edit was made with, are left out.
        profile: the model's words that mean the same, and the sentences in which a concept was erased.
        seed: of the order in which captions are dealt to the three parts.

    Raises:
        EditkitError: the edit has a gate, or the captions are too few.
    """
    check_ungated(edit)
    words = erased_words(edit, profile)
    alone = edit.record.get("method") == "time"
    targets, made_with = [Target.of(word, profile, ()) for word in words], _made_with(edit, profile)

    def is_neutral(caption: str) -> bool:
        named = any(target.naming(caption) for target in targets)
        return not named and caption not in made_with and encoder.reads(caption)

    dealt = Dealt.of(captions, is_neutral, eps, seed)
    if len(dealt.threshold) < MANY:
        warnings.warn(
            f"the threshold comes from {len(dealt.threshold)} captions, a third of those that can be used: with fewer "
            f"than {MANY}, how many prompts open the gate depends much on which these were",
            stacklevel=3,
        )
    wanted = [
        rows[encoder.subject_at(template, word)]
        for word in words
        for templates in [("{}",) if alone else profile.templates_for(word)]
        for template, rows in zip(templates, encoder.encode([fill(each, word) for each in templates]), strict=True)
    ]
    gate = Gate.fit(_rows(encoder, dealt.fit), torch.stack(wanted))
    gate = gate.calibrated(_hits(gate, encoder, dealt.threshold), eps)
    return Edit(
        edit.maps, {**edit.record, "gate": _record(gate, encoder, dealt, words, _sentences(profile), seed)}, gate
    )


def erased_words(edit: Edit, profile: Profile) -> list[str]:
    """What opens the gate: the concepts, what was erased with them, and what the profile knows to mean the same."""
    concepts = list(edit.record["concepts"])
    along = [word for words in edit.record.get("synonyms", {}).values() for word in words]
    return list(dict.fromkeys([*concepts, *along, *profile.taught_as_same(concepts)]))


def _made_with(edit: Edit, profile: Profile) -> set[str]:
    """Prompts that may have entered the edit."""
    sentences = {fill(template, word) for word in profile.words or () for template in profile.sentences_for(word)}
    return sentences | set(edit.record.get("preserve", ()))


def _sentences(profile: Profile) -> list[str]:
    """Those of `ASKED` whose words the model knows."""
    known = profile.knows
    return [each for each in ASKED if known is None or known.issuperset(single_words([each.replace("{}", "")]))]


def _rows(encoder: Encodes, prompts: Sequence[str]) -> Iterator[Tensor]:
    for start in range(0, len(prompts), CHUNK):
        yield from encoder.encode(prompts[start : start + CHUNK])


def _hits(gate: Gate, encoder: Encodes, prompts: Sequence[str]) -> Tensor:
    return torch.cat([gate.hit(rows[None]) for rows in _rows(encoder, prompts)])


def _record(
    gate: Gate, encoder: Encodes, dealt: Dealt, words: Sequence[str], sentences: Sequence[str], seed: int
) -> dict[str, Any]:
    """What a gate says of itself: its threshold, and figures from prompts that took no part in it."""
    asked = [fill(template, word) for word in words for template in sentences]
    opened = (_hits(gate, encoder, asked) > gate.tau).tolist()
    closed = (_hits(gate, encoder, dealt.held) <= gate.tau).tolist()
    return {
        "tau": gate.tau,
        "eps": gate.eps,
        "n": gate.n,
        "words": list(words),
        "untouched": _share(closed),
        "opened": _share(opened, [word for word in words for _ in sentences]),
        "missed": [prompt for prompt, is_open in zip(asked, opened, strict=True) if not is_open][:MOST_MISSED],
        "milliseconds": _milliseconds(gate, list(_rows(encoder, dealt.held[:TIMED]))),
        "captions": {"fit": len(dealt.fit), "held": len(dealt.held), "left_out": dealt.left_out},
        "captions_sha256": dealt.sha256,
        "seed": seed,
    }


def _share(outcomes: Sequence[bool], clusters: Sequence[str] | None = None) -> dict[str, Any]:
    share = rate_interval(outcomes, clusters)
    ends = {name: round(float(getattr(share, name)), 5) for name in ("value", "low", "high")}
    return {**ends, "count": share.count, "clusters": share.clusters}


def _milliseconds(gate: Gate, prompts: Sequence[Tensor]) -> float:
    """Median time that the gate takes for a prompt, without encoding it."""
    taken = []
    for rows in prompts:
        start = time.perf_counter()
        gate.opens(rows[None])
        taken.append(1000 * (time.perf_counter() - start))
    return round(sorted(taken)[len(taken) // 2], 3)
