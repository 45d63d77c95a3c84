"""Weights that a detector or a metric needs and editkit does not bring."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor

from editkit.errors import EditkitError
from editkit.files.header import WEIGHTS
from editkit.model.checkpoints.projections import read_tensors


def usual_path(file: str) -> Path:
    """Where torchvision keeps its downloads, and editkit looks: `$TORCH_HOME/hub/checkpoints/`."""
    return Path(torch.hub.get_dir()) / "checkpoints" / file


def read_weights(path: Path, what: str, source: str) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` file, or of a `.pth` file that holds tensors and nothing else.

    A `.pth` file is a pickle; it is read by torch's restricted reader, which runs none of its code.

    Args:
        what: what the weights are of, for the message.
        source: where they can be had.

    Raises:
        EditkitError: the file is not there, or holds something else.
    """
    if not path.is_file():
        raise EditkitError(f"{what}: no weights at {path}; put them there, from {source}, or name another file")
    try:
        if path.suffix in WEIGHTS:
            return read_tensors(path, lambda name: True)
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, UnpicklingError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise EditkitError(f"{what}: expected weights in {path}, which cannot be read: {reason}") from error
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise EditkitError(f"{what}: expected a table of tensors in {path}, found {type(weights).__name__}")
    return weights


def fill(net: torch.nn.Module, weights: dict[str, Tensor], what: str, path: Path) -> torch.nn.Module:
    """Put all of `weights` into `net`, set to evaluate.

    Raises:
        EditkitError: names or shapes differ.
    """
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise EditkitError(f"{what}: {path} holds the weights of something else: {reason}") from error
    return net.eval()
