"""Checkpoints that are on this machine already: in the hub's cache, and where WebUI and ComfyUI keep theirs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from editkit.files.header import WEIGHTS

PROGRAMS = ("stable-diffusion-webui", "stable-diffusion-webui-forge", "ComfyUI", "SD.Next", "automatic", "Fooocus")
"""Folders of programs as they are cloned."""
CHECKPOINTS = ("models/Stable-diffusion", "models/checkpoints")
"""Where a program keeps checkpoints, below its own folder."""
MOST = 100
"""Files of a folder that are looked into."""


def installed_models() -> list[str]:
    """What `--model` takes of what is on this machine: ids of cached Stable Diffusion pipelines, and checkpoint files.

    The programs are looked for in the working folder, in the ones above it, and in the home folder. Only headers are
    read.
    """
    return [*_cached(), *map(str, _files())]


def _cached() -> Iterator[str]:
    from huggingface_hub.constants import HF_HUB_CACHE

    for folder in _sorted(Path(HF_HUB_CACHE), "models--*--*"):
        hub_id = folder.name.removeprefix("models--").replace("--", "/", 1)
        if any(_is_stable_diffusion(index) for index in folder.glob("snapshots/*/model_index.json")):
            yield hub_id


def _is_stable_diffusion(index: Path) -> bool:
    try:
        return '"StableDiffusion' in index.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def _files() -> Iterator[Path]:
    from editkit.model.checkpoints.single_file import is_checkpoint

    here = Path.cwd()
    roots = dict.fromkeys([here, *here.parents, Path.home()])
    programs = [root / name for root in roots for name in ("", *PROGRAMS)]
    for folder in dict.fromkeys(program / place for program in programs for place in CHECKPOINTS):
        for path in _sorted(folder, "**/*")[:MOST]:
            if path.suffix.lower() in WEIGHTS and is_checkpoint(path):
                yield path


def _sorted(folder: Path, pattern: str) -> list[Path]:
    try:
        return sorted(folder.glob(pattern)) if os.access(folder, os.R_OK) else []
    except OSError:
        return []
