"""CLIP's tokenizer from a model's folder, without transformers: importing that takes a second, a word takes none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from editkit.embeddings.reader import NO_LIMIT

START, END = "<|startoftext|>", "<|endoftext|>"
PIECES = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
"""What CLIP splits a text into before byte pairs are merged (openai/CLIP, simple_tokenizer.py)."""


class Ids(NamedTuple):
    input_ids: list[int]


@dataclass(frozen=True)
class ClipTokens:
    """As much of transformers' `CLIPTokenizer` as `editkit.embeddings.reader` asks for, with the same ids (tested)."""

    backend: Any
    pad_token_id: int
    model_max_length: int

    def __call__(self, text: str, truncation: bool = False, add_special_tokens: bool = True) -> Ids:
        return Ids(self.backend.encode(text, add_special_tokens=add_special_tokens).ids)

    def tokenize(self, text: str) -> list[str]:
        return self.backend.encode(text, add_special_tokens=False).tokens

    def get_vocab(self) -> dict[str, int]:
        return self.backend.get_vocab()

    @cached_property
    def added_tokens_encoder(self) -> dict[str, int]:
        return {token.content: number for number, token in self.backend.get_added_tokens_decoder().items()}


def read_clip_tokens(folder: Path) -> ClipTokens | None:
    """The tokenizer of a diffusers folder; None where it is damaged or unusual, and transformers must look at it."""
    try:
        settings: dict[str, Any] = {}
        for name in ("special_tokens_map.json", "tokenizer_config.json"):
            settings |= _read(folder / name)
        pad = settings.get("pad_token") or END
        pad = pad["content"] if isinstance(pad, dict) else pad
        backend = _backend(folder, pad)
        added = _added(folder, settings)
        if "added_tokens_decoder" in settings and backend.get_added_tokens_decoder().keys() - added.keys():
            return None  # transformers goes by the settings then, and forgets what stands in tokenizer.json alone
        _add(backend, added)
        number = backend.token_to_id(pad)
        limit = int(settings.get("model_max_length") or NO_LIMIT)
        return None if number is None else ClipTokens(backend, number, limit)
    except Exception:  # the reader of JSON, of tokenizers and of files raise their own
        return None


def _backend(folder: Path, pad: str) -> Any:
    from tokenizers import Tokenizer

    if (folder / "tokenizer.json").is_file():
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer
    return _built(folder / "vocab.json", folder / "merges.txt", pad)


def _added(folder: Path, settings: Mapping[str, Any]) -> dict[int, Any]:
    """Id → token that was added to the vocabulary and does not stand in `tokenizer.json`: older versions of
    transformers write `added_tokens.json`, or `added_tokens_decoder` into the settings."""
    from tokenizers import AddedToken

    if settings.get("additional_special_tokens") or settings.get("extra_special_tokens"):
        raise ValueError("special tokens beside those of CLIP")
    if "added_tokens_decoder" in settings:
        return {int(number): AddedToken(**token) for number, token in settings["added_tokens_decoder"].items()}
    added = _read(folder / "added_tokens.json")
    return {number: AddedToken(token, normalized=True, special=False) for token, number in added.items()}


def _add(backend: Any, added: Mapping[int, Any]) -> None:
    """Add what `backend` does not know yet.

    Raises:
        ValueError: a token gets another id than its file says.
    """
    known = backend.get_added_tokens_decoder()
    for number in sorted(added.keys() - known.keys()):
        add = backend.add_special_tokens if added[number].special else backend.add_tokens
        add([added[number]])
        if backend.token_to_id(added[number].content) != number:
            raise ValueError(f"{added[number].content} is not token {number}")


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _built(vocabulary: Path, merges: Path, pad: str) -> Any:
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    bpe: Any = models.BPE.from_file(str(vocabulary), str(merges), unk_token=END, end_of_word_suffix="</w>")
    tokenizer: Any = Tokenizer(bpe)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(PIECES), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    start, end = ((token, tokenizer.token_to_id(token)) for token in (START, END))
    tokenizer.add_special_tokens([START, END, pad])  # with `!` for padding, as in SD 2.x, a `!` in a prompt is that too
    tokenizer.post_processor = processors.RobertaProcessing(end, start, trim_offsets=False, add_prefix_space=False)
    return tokenizer
