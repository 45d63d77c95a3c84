"""Prompts as a model's own pipeline reads them: which tokens, and how many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from editkit.embeddings.inversions import Inversions
from editkit.embeddings.reader import Reader
from editkit.model.checkpoints.source import Source


def reader_of(source: Source, tokenizer: Any, positions: int | None = None) -> Reader:
    """A tokenizer as the pipeline of `source` uses it; `positions` as `Reader` has them."""
    known = Inversions.of(tokenizer)
    return Reader(tokenizer, inversions=known if known.vectors and _expands(source) else None, positions=positions)


def _expands(source: Source) -> bool:
    """Whether the pipeline writes all vectors of a textual inversion: its class in diffusers says so. Asked only where
    there is one, since importing diffusers takes seconds."""
    import diffusers
    from diffusers.loaders import TextualInversionLoaderMixin

    usual, stated = source.family.pipelines[0], str(source.index.get("_class_name"))
    return issubclass(getattr(diffusers, stated, getattr(diffusers, usual)), TextualInversionLoaderMixin)


def fit_windows(pipe: Any) -> None:
    """Let no tokenizer of a pipeline state more than its text encoder has positions for. A pipeline pads prompts to
    what its tokenizer states, and fails where that is too much or nothing."""
    for end in ("", "_2"):
        tokenizer, encoder = (getattr(pipe, f"{part}{end}", None) for part in ("tokenizer", "text_encoder"))
        positions = getattr(getattr(encoder, "config", None), "max_position_embeddings", None)
        if tokenizer is not None and positions is not None:
            tokenizer.model_max_length = Reader(tokenizer, positions=positions).limit


def written(pipe: Any, prompts: Sequence[str]) -> list[str]:
    """Prompts with all vectors of textual inversions, where the pipeline does that."""
    convert = getattr(pipe, "maybe_convert_prompt", None)
    return list(prompts) if convert is None else convert(list(prompts), pipe.tokenizer)
