"""CLIP's tokenizer from a model's folder, without transformers: importing that takes a second, a word takes none."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

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


def read_clip_tokens(folder: Path) -> ClipTokens | None:
    """The tokenizer of a diffusers folder; None where it is damaged or unusual, and transformers must look at it."""
    try:
        settings: dict[str, Any] = {}
        for name in ("special_tokens_map.json", "tokenizer_config.json"):
            if (folder / name).is_file():
                settings |= json.loads((folder / name).read_text(encoding="utf-8"))
        pad = settings.get("pad_token") or END
        pad = pad["content"] if isinstance(pad, dict) else pad
        backend = _backend(folder, pad)
        number = backend.token_to_id(pad)
        return None if number is None else ClipTokens(backend, number, int(settings["model_max_length"]))
    except Exception:  # the reader of JSON, of tokenizers and of files raise their own
        return None


def _backend(folder: Path, pad: str) -> Any:
    from tokenizers import Tokenizer

    if (folder / "tokenizer.json").is_file():
        found = Tokenizer.from_file(str(folder / "tokenizer.json"))
        found.no_truncation()
        found.no_padding()
        return found
    if (folder / "added_tokens.json").is_file():
        raise ValueError("tokens were added")
    return _built(folder / "vocab.json", folder / "merges.txt", pad)


def _built(vocabulary: Path, merges: Path, pad: str) -> Any:
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    bpe: Any = models.BPE.from_file(str(vocabulary), str(merges), unk_token=END, end_of_word_suffix="</w>")
    found: Any = Tokenizer(bpe)
    found.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    found.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(PIECES), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    start, end = ((token, found.token_to_id(token)) for token in (START, END))
    found.add_special_tokens([START, END, pad])  # with `!` for padding, as in SD 2.x, a `!` in a prompt is that too
    found.post_processor = processors.RobertaProcessing(end, start, trim_offsets=False, add_prefix_space=False)
    return found
