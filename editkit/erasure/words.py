"""Which words of a model's vocabulary an edit protects."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from torch import Tensor

from editkit.concepts.vocabulary import FEW, read_word_file, single_words, without_synonyms
from editkit.erasure.near import likeness
from editkit.errors import EditkitError
from editkit.model.checkpoints.installed import installed_models
from editkit.model.editable import EditableModel

MOST_NAMED = 3
TOKENS = "tokens"
"""`--vocabulary tokens` is the tokenizer's own vocabulary."""


def words_to_protect(
    model: EditableModel,
    concepts: Sequence[str],
    guides: Sequence[str],
    vocabulary: Sequence[str] | None = None,
    near: Tensor | None = None,
) -> list[str]:
    """`vocabulary` (default: the words of the model's profile) less the erased concepts, what is known or measured to
    mean the same, and the guides. `near` is their `nearness`, where it is known already."""
    also = [*(guide for guide in guides if guide.strip()), *model.profile.taught_as_same(concepts)]
    words = list(vocabulary) if vocabulary is not None else model.own_words()
    return without_synonyms(words, concepts, also, nearness(model, concepts, words) if near is None else near)


def read_vocabulary(model: EditableModel, given: str | None) -> list[str] | None:
    """The words of a file, those of the tokenizer for `tokens`, or None for the default."""
    if given is None:
        return None
    return token_words(model.encoder.reader.tokenizer) if given == TOKENS else read_word_file(Path(given))


def token_words(tokenizer: object) -> list[str]:
    """The entries of a CLIP tokenizer that are whole words of three letters and more.

    Raises:
        EditkitError: it has none: T5's and those of language models do not say where a word ends.
    """
    known: dict[str, int] = tokenizer.get_vocab()  # pyright: ignore[reportAttributeAccessIssue]
    words = sorted(name.removesuffix("</w>") for name in known if re.fullmatch(r"[a-z]{3,}</w>", name))
    if not words:
        raise EditkitError(
            "--vocabulary tokens: expected a tokenizer of CLIP, this one does not say where words end; give a file of "
            "words"
        )
    return words


def nearness(model: EditableModel, concepts: Sequence[str], words: Sequence[str]) -> Tensor | None:
    """`likeness` of words to the concepts, `(words, concepts)`; None where the words are too few to be measured."""
    return likeness(model.encoder, words, concepts, model.gram) if len(words) >= FEW else None


def check_known(model: EditableModel, concepts: Sequence[str]) -> None:
    """Refuse a concept that the model's profile says it cannot draw. Most models are trusted to know every word.

    Raises:
        EditkitError: naming the words it never learned, and near ones that it did.
    """
    profile = model.profile
    if profile.knows is None:
        return
    for concept in concepts:
        unknown = [word for word in single_words([concept]) if word not in profile.knows]
        if unknown:
            near = get_close_matches(concept.lower(), profile.words or sorted(profile.knows), 3)
            hint = f"did you mean {' or '.join(near)}? " if near else ""
            raise EditkitError(
                f"concept {concept!r}: model {model.source.name} never learned the word {unknown[0]!r}; "
                f"{hint}{profile.advice}{_installed()}"
            )


def _installed() -> str:
    """Checkpoints that are on this machine, with what to type for them."""
    known = installed_models()
    if not known:
        return ""
    more = f" (and {len(known) - MOST_NAMED} more)" if len(known) > MOST_NAMED else ""
    return f"; on this machine are {', '.join(f'--model {shlex.quote(name)}' for name in known[:MOST_NAMED])}{more}"
