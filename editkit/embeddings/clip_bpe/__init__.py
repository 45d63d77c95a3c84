"""CLIP's tokenizer, for checkpoints that hold none.

`merges.txt.gz` holds the 48,894 byte-pair merges of OpenAI's release, https://github.com/openai/CLIP; MIT licence in
`LICENSE.txt` beside this file.
"""

from __future__ import annotations

import gzip
from importlib.resources import files
from typing import Any

START, END = "<|startoftext|>", "<|endoftext|>"
END_OF_WORD = "</w>"
POSITIONS = 77


def clip_tokenizer(pad_token: str = END) -> Any:
    """`CLIPTokenizer` with 49,408 tokens and 77 positions, built offline.

    `pad_token`: `<|endoftext|>` for CLIP-L, `!` (id 0) for the OpenCLIP encoders of SD 2.x and SDXL.
    """
    from transformers import CLIPTokenizer

    lines = gzip.decompress((files(__name__) / "merges.txt.gz").read_bytes()).decode().split("\n")
    merges: Any = [tuple(line.split(" ")) for line in lines]
    letters = _letters()
    tokens = [*letters, *(letter + END_OF_WORD for letter in letters), *("".join(pair) for pair in merges), START, END]
    vocab = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocab, merges=merges, pad_token=pad_token, model_max_length=POSITIONS)


def _letters() -> list[str]:
    """One printable letter per byte, in the order of the vocabulary: bytes that print as Latin-1 stand for themselves
    and come first, the others are numbered from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(byte) for byte in printable] + [chr(0x100 + number) for number in range(256 - len(printable))]
