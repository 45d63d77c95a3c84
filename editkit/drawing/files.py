"""Draw thousands of pictures to files: a second run draws what is missing, several processes share the work."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from editkit.drawing.pipelines.denoiser import Denoiser
from editkit.drawing.sampler import Job, draw
from editkit.drawing.sampling import Sampling
from editkit.edits.variant import Variant
from editkit.errors import EditkitError
from editkit.files.atomic import write_atomic, write_text_atomic
from editkit.progress import progress

T = TypeVar("T")
SETTINGS = "settings.json"


@dataclass(frozen=True)
class Shard:
    """One process of `count` that share a list: `accelerate launch -m editkit_cli ...`, or `torchrun`."""

    rank: int = 0
    count: int = 1

    @classmethod
    def from_environment(cls) -> Shard:
        """What the launcher says: `RANK` and `WORLD_SIZE`."""
        return cls(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def of(self, items: Iterable[T]) -> Iterator[T]:
        """This process's part. Every item is in exactly one part."""
        return islice(items, self.rank, None, self.count)

    def wait(self) -> None:
        """Until every process is here, however long the slowest one draws.

        Not by accelerate's `wait_for_everyone`: without a GPU its second call waits for nobody.
        """
        if self.count > 1:
            from torch import distributed

            if not distributed.is_initialized():
                distributed.init_process_group("gloo", timeout=timedelta(days=30))
            distributed.barrier()

    def device(self) -> str:
        """A GPU of its own where there are some."""
        import torch

        if not torch.cuda.is_available():
            return "cpu"
        return f"cuda:{os.environ.get('LOCAL_RANK', 0)}"


def draw_files(
    denoiser: Denoiser,
    wanted: Iterable[tuple[Job, Path]],
    variants: Sequence[Variant | None] = (None,),
    sampling: Sampling | None = None,
    shard: Shard | None = None,
    total: int = 0,
    what: str = "drawing",
) -> tuple[int, int]:
    """Draw each job to its file, unless that is there; returns how many this process drew, and how many were there.

    `wanted` is read as it is drawn, so its length does not cost memory. It must not depend on which files exist, or
    the processes would not divide the same list.

    Args:
        total: the number of pictures, for the progress bar.
    """
    shard = shard or Shard()
    waiting: deque[Path] = deque()
    there = 0

    def missing() -> Iterator[Job]:
        nonlocal there
        for job, path in shard.of(progress(wanted, total, what) if shard.is_first else wanted):
            if path.exists():
                there += 1
                continue
            waiting.append(path)
            yield job

    drawn = 0
    for _, picture in draw(denoiser, missing(), variants, sampling):
        write_atomic(waiting.popleft(), picture.save, force=True)
        drawn += 1
    return drawn, there


def keep_settings(folder: Path, settings: Mapping[str, Any], force: bool = False) -> None:
    """Note in `folder` what its pictures are made with, so that no later run adds others to them.

    Raises:
        EditkitError: the folder's pictures were made otherwise.
    """
    path = folder / SETTINGS
    made = json.loads(json.dumps(settings))
    if path.exists() and not force:
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise EditkitError(f"{path}: cannot be read ({error}); give another --out, or --force") from error
        differing = [name for name in {**made, **before} if before.get(name) != made.get(name)]
        if differing:
            name = differing[0]
            raise EditkitError(
                f"{folder}: its pictures were made with {name} {before.get(name)!r}, now {made.get(name)!r}; "
                "give another --out"
            )
        return
    write_text_atomic(path, json.dumps(made, indent=2, ensure_ascii=False) + "\n", force=True)
