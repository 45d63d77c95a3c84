"""Which of the files in a component's folder are its weights: each component chooses for itself, as stock does.

A component may be one file or shards with an index, and may come in variants (`fp16`), some of them alone. Old shards
have the variant behind their number (`model-00001-of-00002.fp16.safetensors`), later ones before it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

STEMS = ("diffusion_pytorch_model", "model")
"""Names that stock diffusers and transformers look for."""
PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
OTHER_WEIGHTS = (".msgpack", ".onnx", ".onnx_data", ".h5", ".xml", ".gguf", ".pb", ".tflite")
"""Endings of weights for other frameworks."""

_FILE = re.compile(r"(?P<stem>[^.]+?)(\.(?P<variant>[^.]+?))?(?P<shard>-\d+-of-\d+)?(\.(?P<old>[^.]+))?\.safetensors")
_INDEX = re.compile(r"(?P<stem>[^.]+)\.safetensors(\.(?P<old>[^.]+))?\.index(\.(?P<variant>[^.]+))?\.json")


@dataclass(frozen=True)
class WeightFiles:
    """A component's weights.

    Attributes:
        names: one file, or all shards.
        variant: None, or `fp16` and the like: what stock is told as `variant=`.
        index: the shards' index.
    """

    names: tuple[str, ...]
    variant: str | None = None
    index: str | None = None


def choose(names: Collection[str], shards_of: Callable[[str], Iterable[str]]) -> WeightFiles | None:
    """The weights among the file names of a component: the plain ones before variants, one file before shards.

    Args:
        shards_of: index → the shards that it names.

    Returns:
        None where there are none. Shards may be missing: if no choice is whole, the first is returned.
    """
    sharded = [WeightFiles(tuple(shards_of(name)), _part(at, "variant", "old"), name) for name, at in _indexes(names)]
    shards = {shard for choice in sharded for shard in choice.names}
    whole = [WeightFiles((name,), _part(at, "variant", "old")) for name, at in _files(names)
             if name not in shards and not at["shard"]]  # fmt: skip
    choices = sorted([*whole, *sharded], key=_rank)
    return next((choice for choice in choices if set(choice.names) <= set(names)), next(iter(choices), None))


def choose_listed(names: Collection[str]) -> tuple[str, ...]:
    """The same from the names alone, before anything is downloaded: the files of one variant, without the index."""
    choices: dict[tuple[bool, bool, str, bool], list[str]] = {}
    for name, at in _files(names):
        variant = _part(at, "variant", "old")
        key = (at["stem"] not in STEMS, variant is not None, variant or "", at["shard"] is not None)
        choices.setdefault(key, []).append(name)
    return tuple(sorted(choices[min(choices)])) if choices else ()


def _files(names: Iterable[str]) -> list[tuple[str, re.Match[str]]]:
    return [(name, at) for name in sorted(names) if (at := _FILE.fullmatch(name))]


def _indexes(names: Iterable[str]) -> list[tuple[str, re.Match[str]]]:
    return [(name, at) for name in sorted(names) if (at := _INDEX.fullmatch(name))]


def _part(at: re.Match[str], *groups: str) -> str | None:
    return next((at[group] for group in groups if at[group]), None)


def _rank(choice: WeightFiles) -> tuple[bool, bool, str, bool]:
    first = (choice.index or choice.names[0]).split(".")[0]
    return first not in STEMS, choice.variant is not None, choice.variant or "", choice.index is not None
