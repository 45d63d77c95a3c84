"""Models of the hub: which files of a repository a pipeline needs, and where they are in the local cache."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from editkit.errors import EditkitError
from editkit.model.checkpoints.weight_files import OTHER_WEIGHTS, PICKLES, choose_listed

INDEX = "model_index.json"
SPARE = (*PICKLES, *OTHER_WEIGHTS, ".safetensors", ".py", ".md", ".png", ".jpg", ".gitattributes")
"""Endings of files in a component's folder that are not fetched unless they are the weights chosen: all else is small,
and tokenizers have many kinds of it (merges.txt, spiece.model, tokenizer.model, chat_template.jinja)."""


def fetch(hub_id: str) -> Path:
    """The diffusers folder of a hub id in huggingface_hub's cache, downloaded when it is not there yet.

    Raises:
        EditkitError: it is no diffusers pipeline, or neither cached nor to be had.
    """
    from huggingface_hub.constants import HF_HUB_OFFLINE

    failure: Exception | None = None
    try:
        folder = None if HF_HUB_OFFLINE else _downloaded(hub_id)
    except EditkitError:
        raise
    except Exception as error:  # the hub raises its own, httpx's and the system's errors
        folder, failure = None, error
    folder = folder or _cached(hub_id)
    if folder is None:
        remedy = "unset HF_HUB_OFFLINE to allow downloads" if HF_HUB_OFFLINE else "check the name and the connection"
        why = f" ({type(failure).__name__})" if failure else ""
        raise EditkitError(
            f"model {hub_id}: no such folder, and as a hub id it is not in the local cache and cannot be fetched{why}; "
            f"{remedy}, or give a folder"
        ) from failure
    if not (folder / INDEX).is_file():
        raise EditkitError(f"model {hub_id}: expected a diffusers pipeline, but it has no {INDEX}")
    return folder


def _downloaded(hub_id: str) -> Path:
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download

    names = HfApi().list_repo_files(hub_id)
    if INDEX not in names:
        raise EditkitError(f"model {hub_id}: expected a diffusers pipeline, but it has no {INDEX}")
    index = json.loads(Path(hf_hub_download(hub_id, INDEX)).read_text(encoding="utf-8"))
    return Path(snapshot_download(hub_id, allow_patterns=wanted_files(names, index)))


def _cached(hub_id: str) -> Path | None:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub_id, local_files_only=True))
    except Exception:  # as above
        return None


def wanted_files(names: Collection[str], index: Mapping[str, Any]) -> list[str]:
    """The files of a repository that its pipeline needs: of every component that the index names, the weights that
    `editkit.model.checkpoints.weight_files` would choose, and all that is neither weights nor code.

    Args:
        names: all files of the repository.
        index: its `model_index.json`.
    """
    wanted = [INDEX]
    for component, entry in index.items():
        if not isinstance(entry, list) or None in entry:
            continue
        inside = [PurePosixPath(name) for name in names if PurePosixPath(name).parts[:-1] == (component,)]
        weights = choose_listed([path.name for path in inside])
        wanted += [str(path) for path in inside if path.name in weights or not path.name.endswith(SPARE)]
    return sorted(wanted)
