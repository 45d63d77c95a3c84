"""CLIP's tokenizer without transformers gives what transformers gives."""

from __future__ import annotations

import gzip
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from editkit.concepts.vocabulary import common_words
from editkit.embeddings.clip_bpe import clip_tokenizer
from editkit.embeddings.clip_tokens import read_clip_tokens
from editkit.model.checkpoints.source import find

ODD = [
    "",
    " ",
    "Café naïve, don't!",
    "a  b\n\tc",
    "日本の教会 42",
    "<|endoftext|> x",
    "x<|startoftext|>",
    "🙂 ok",
    "ﬁ Å",
]


def folder(kind: str, base: Path) -> Path:
    """CLIP's tokenizer as transformers 5 saves it, or as the released folders hold it."""
    if kind == "emoji":
        return find("emoji").path / "tokenizer"
    pad = "!" if "!" in kind else "<|endoftext|>"
    tokenizer = clip_tokenizer(pad)
    if kind.startswith("saved"):
        tokenizer.save_pretrained(base)
        return base
    (base / "vocab.json").write_text(json.dumps(tokenizer.get_vocab()), encoding="utf-8")
    merges = gzip.decompress((files("editkit.embeddings.clip_bpe") / "merges.txt.gz").read_bytes()).decode()
    (base / "merges.txt").write_text("#version: 0.2\n" + merges, encoding="utf-8")
    token: Any = {"content": pad, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    (base / "special_tokens_map.json").write_text(json.dumps({"pad_token": pad if pad == "!" else token}))
    (base / "tokenizer_config.json").write_text(
        json.dumps({"model_max_length": 77, "tokenizer_class": "CLIPTokenizer"})
    )
    return base


@pytest.mark.parametrize("kind", ["emoji", "saved", "saved !", "released", "released !"])
def test_ids_are_those_of_transformers(kind: str, tmp_path: Path) -> None:
    from transformers import CLIPTokenizer

    where = folder(kind, tmp_path)
    mine, theirs = read_clip_tokens(where), CLIPTokenizer.from_pretrained(where)
    assert mine is not None
    assert (mine.pad_token_id, mine.model_max_length) == (theirs.pad_token_id, theirs.model_max_length)
    for text in [*ODD, *(f"a photo of a {word}" for word in common_words()[::10])]:
        for special in (True, False):
            expected = theirs(text, truncation=False, add_special_tokens=special).input_ids
            assert mine(text, add_special_tokens=special).input_ids == expected, text


ADDED = ["<cat-toy>", "<cat-toy>_1", "MyStyle"]
SETTINGS: Any = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False, "special": False}


def with_added(place: str, base: Path) -> Path:
    """A tokenizer with `ADDED`, written where versions of transformers write them."""
    if place == "tokenizer.json":
        tokenizer = clip_tokenizer()
        tokenizer.add_tokens(ADDED)
        tokenizer.save_pretrained(base)
        return base
    where = folder("saved" if place.startswith("beside") else "released", base)
    if place.endswith("added_tokens.json"):
        numbers = {token: 49408 + n for n, token in enumerate(ADDED)}
        (where / "added_tokens.json").write_text(json.dumps(dict(reversed(numbers.items()))))
    else:
        settings = json.loads((where / "tokenizer_config.json").read_text())
        known = {
            49406: {"content": "<|startoftext|>", "special": True},
            49407: {"content": "<|endoftext|>", "special": True},
        }
        added = known | {49408 + n: {"content": token} for n, token in enumerate(ADDED)}
        settings["added_tokens_decoder"] = {str(number): SETTINGS | token for number, token in added.items()}
        (where / "tokenizer_config.json").write_text(json.dumps(settings))
    return where


@pytest.mark.parametrize(
    "place", ["tokenizer.json", "added_tokens.json", "beside tokenizer.json: added_tokens.json", "settings"]
)
def test_added_tokens_are_those_of_transformers(place: str, tmp_path: Path) -> None:
    from transformers import CLIPTokenizer

    where = with_added(place, tmp_path)
    mine, theirs = read_clip_tokens(where), CLIPTokenizer.from_pretrained(where)
    assert mine is not None
    assert mine.added_tokens_encoder == theirs.added_tokens_encoder
    assert set(ADDED) <= set(mine.added_tokens_encoder)
    for text in [
        *ODD,
        "<cat-toy>",
        "a <CAT-TOY>_1s",
        "mystyle MyStyle <cat-toy>, x",
        "<cat-toy>_12",
        "toy <cat - toy>",
    ]:
        assert mine(text).input_ids == theirs(text).input_ids, text
        assert mine.tokenize(text) == theirs.tokenize(text), text


def test_a_tokenizer_need_not_state_a_limit(tmp_path: Path) -> None:
    from transformers import CLIPTokenizer

    where = folder("released", tmp_path)
    (where / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}))
    mine, theirs = read_clip_tokens(where), CLIPTokenizer.from_pretrained(where)
    assert mine is not None and mine.model_max_length == theirs.model_max_length == int(1e30)


def test_what_is_unusual_is_left_to_transformers(tmp_path: Path) -> None:
    assert read_clip_tokens(tmp_path) is None
    where = folder("released", tmp_path)
    assert read_clip_tokens(where) is not None
    (where / "added_tokens.json").write_text('{"<new>": 49500}')  # the next free number is 49408
    assert read_clip_tokens(where) is None
    (where / "added_tokens.json").unlink()
    settings = (where / "tokenizer_config.json").read_text()
    (where / "tokenizer_config.json").write_text(json.dumps(json.loads(settings) | {"extra_special_tokens": ["<new>"]}))
    assert read_clip_tokens(where) is None
    (where / "tokenizer_config.json").write_text(settings)
    (where / "merges.txt").write_text("not merges")
    assert read_clip_tokens(where) is None


def test_tokens_that_the_settings_do_not_name_are_left_to_transformers(tmp_path: Path) -> None:
    """It forgets them where the settings list the others."""
    where = with_added("tokenizer.json", tmp_path)
    settings = json.loads((where / "tokenizer_config.json").read_text())
    listed = {"49406": SETTINGS | {"content": "<|startoftext|>", "special": True}}
    (where / "tokenizer_config.json").write_text(json.dumps(settings | {"added_tokens_decoder": listed}))
    assert read_clip_tokens(where) is None
