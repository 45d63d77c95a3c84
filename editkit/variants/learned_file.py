"""Textual inversions as safetensors files that diffusers, WebUI and ComfyUI load.

SD 1.x and 2.x: one tensor `(vectors, width)` under the token. SDXL: `clip_l` and `clip_g`. Those are of the best
restart; others, and what masks leave, stand in the metadata, since these programs accept no further tensor.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from editkit.embeddings.learned import Learned, Vectors
from editkit.errors import EditkitError
from editkit.files.atomic import check_free, write_atomic
from editkit.files.header import read_header
from editkit.model.checkpoints.projections import read_tensors
from editkit.model.formats import save_tensors
from editkit.variants.record import read_json_metadata, record_json

KEY = "editkit_inversion"
XL = ("clip_l", "clip_g")
"""SDXL's tensors, in the order of its text encoders."""
PICKLES = (".pt", ".bin", ".pth", ".ckpt")


def save_learned(learned: Learned, path: Path | str, force: bool = False) -> None:
    """Write a textual inversion.

    Args:
        learned: what `editkit.invert` made.
        path: a `.safetensors` file.
        force: replace an inversion that is there.

    Raises:
        EditkitError: `path` is there already, or cannot be written.
    """
    path = Path(path)
    check_free_for_learned(path, force)
    names = (learned.token,) if len(learned.best) == 1 else XL
    said = {
        **learned.record,
        "token": learned.token,
        "word": learned.word,
        "more": [_coded(each) for each in learned.restarts[1:]],
        "kept": [_coded(each) for each in learned.kept],
    }
    tensors = {name: rows.float().cpu() for name, rows in zip(names, learned.best, strict=True)}
    write_atomic(path, lambda part: save_tensors(tensors, part, {KEY: record_json(said)}), force)


def check_free_for_learned(path: Path, force: bool = False) -> None:
    """As `check_free`; and what is replaced with `force` must be a textual inversion that editkit wrote."""
    check_free(path, force)
    if path.exists() and KEY not in read_header(path).metadata:
        raise EditkitError(
            f"{path} exists and is no textual inversion of editkit: --force replaces these alone; give another --out"
        )


def load_learned(path: Path | str, word: str | None = None) -> Learned:
    """Read a textual inversion, of editkit or of another program.

    Args:
        path: a `.safetensors` file.
        word: what its pictures show, one token; for files of other programs, which do not say it.

    Raises:
        EditkitError: no such file, a pickle, tensors that are no inversion, or nothing says the word.
    """
    path = Path(path)
    if path.suffix.lower() in PICKLES:
        raise EditkitError(
            f"{path}: is a pickle, which may run code; convert it to safetensors elsewhere, and give that"
        )
    if not path.is_file():
        raise EditkitError(f"{path}: expected a textual inversion, found no such file; make it with `editkit invert`")
    said: dict[str, Any] = read_json_metadata(path, KEY) if KEY in read_header(path).metadata else {}
    tensors = {
        name: (tensor[None] if tensor.ndim == 1 else tensor).float()
        for name, tensor in read_tensors(path, lambda _: True).items()
    }
    names = XL if tensors.keys() == {*XL} else tuple(tensors)
    best = tuple(tensors[name] for name in names)
    if (len(best) != 1 and names != XL) or any(rows.ndim != 2 or not len(rows) for rows in best):
        shown = ", ".join(f"{name} {tuple(rows.shape)}" for name, rows in list(tensors.items())[:3])
        raise EditkitError(
            f"{path}: expected one tensor (vectors, width), or clip_l and clip_g, got {shown or 'none'}; "
            "make it with `editkit invert`"
        )
    if not all(rows.isfinite().all() for rows in best):
        raise EditkitError(f"{path}: its vectors are not finite; learn them again")
    word = word or said.get("word")
    if not word:
        raise EditkitError(f"{path}: does not say what its pictures show; name it with --word, one token")
    token = said.get("token") or (f"<{path.name.split('.')[0].lower()}>" if names == XL else names[0])
    try:
        more, kept = ([_decoded(each, best) for each in said.get(key, ())] for key in ("more", "kept"))
        if kept and len(kept) != 1 + len(more):
            raise ValueError(f"{1 + len(more)} restarts and {len(kept)} of what masks leave")
    except (ValueError, TypeError, RuntimeError) as error:
        raise EditkitError(f"{path}: its metadata is damaged ({error}); learn it again") from error
    record = {key: value for key, value in said.items() if key not in ("token", "word", "more", "kept")}
    return Learned(token, word, (best, *more), tuple(kept), record)


def _coded(vectors: Vectors) -> list[str]:
    """Float32, little-endian, in base64."""
    return [base64.b64encode(rows.float().cpu().numpy().astype("<f4").tobytes()).decode() for rows in vectors]


def _decoded(coded: Sequence[str], like: Sequence[Tensor]) -> Vectors:
    arrays = [np.frombuffer(base64.b64decode(text), "<f4").astype(np.float32) for text in coded]
    return tuple(torch.from_numpy(array).view(rows.shape) for array, rows in zip(arrays, like, strict=True))
