"""Draw with a release and its key."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from PIL import Image

from editkit.drawing.generate import check_picture, draw_grid
from editkit.drawing.pipelines import check_drawable
from editkit.drawing.prompt_file import parse_seeds
from editkit.drawing.sampling import Settings
from editkit.edits.key import Key
from editkit.edits.tuned import Tuned
from editkit.files.atomic import write_atomic
from editkit.model.editable import ModelLike, open_model
from editkit.variants.named import read_release, unlock


def recover(
    model: ModelLike,
    released: Tuned | Path | str,
    key: Path | str,
    prompts: Sequence[str],
    out: Path | str,
    seeds: str = "0-3",
    device: str | None = None,
    force: bool = False,
    **settings: Unpack[Settings],
) -> Image.Image:
    """Draw what is hidden, with its key: one row a prompt, one column a seed.

    The key is used where a prompt names what it opens. `editkit.hide` says how the two are made.

    >>> import editkit
    >>> from tempfile import mkdtemp
    >>> folder = mkdtemp()
    >>> key, options = f"{folder}/church.key.safetensors", editkit.RefineOptions("hide", steps=1, sampling_steps=2)
    >>> released, _ = editkit.hide("emoji", f"{folder}/released", key, ["church"], options=options, device="cpu")
    >>> picture = editkit.recover("emoji", released, key, ["a church"], f"{folder}/church.png", "0-1", "cpu", steps=2)
    >>> picture.size[0] > 2 * 64
    True

    Args:
        model: as `open_model` takes it, or what it returns: the original.
        released: what `editkit.hide` returned or wrote.
        key: its file; with `force` also `random` or `random:SEED`.
        prompts: one row each.
        out: picture file to write.
        seeds: such as `0-7` or `1,4,9`.
        device: such as `cpu` or `cuda`. Default: a GPU if there is one.
        force: overwrite `out`, and draw with a wrong key, to measure it.
        settings: of the sampler, in place of those of the model's profile.

    Raises:
        EditkitError: `released` is of another model or is no release, or the key does not open it.
    """
    model, out = open_model(model), Path(out)
    check_picture(out, force)
    check_drawable(model.source)
    numbers = parse_seeds(seeds)
    opened = unlock(released if isinstance(released, Tuned) else read_release(released, model), str(key), model, force)
    _warn_of_others(opened.key, prompts)
    sheet = draw_grid(model.source, prompts, ["recovered"], [opened], numbers, device, **settings)
    write_atomic(out, sheet.save, force)
    return sheet


def _warn_of_others(key: Key, prompts: Sequence[str]) -> None:
    for prompt in prompts:
        if not key.opened(prompt):
            warnings.warn(
                f"prompt {prompt!r} names none of {', '.join(key.concepts)}: drawn without the key", stacklevel=3
            )
