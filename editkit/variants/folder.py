"""The edit file of what a user names: the file itself, or the one in a folder that `refine` or `hide` made."""

from __future__ import annotations

from pathlib import Path

from editkit.errors import EditkitError
from editkit.files.header import WEIGHTS

TUNED_NAME = "tuned.safetensors"
"""What a folder of `editkit refine` or `editkit hide` holds."""

MOST_SHOWN = 5
KINDS = (
    ("model_index.json", "is a diffusers model; give it with --model"),
    ("config.json", "is a part of a model; give the model's own folder with --model"),
    ("checkpoint.pt", "is a run of `refine` that has no result yet; go on with the same command and --resume"),
    ("log.jsonl", "is a run of `refine` that has no result; run it again"),
    ("results.json", "holds the results of `editkit evaluate`; give the edits that it measured"),
    ("index.html", "is a report of `editkit compare`; give the edits that it shows"),
)
"""A file, and what a folder is that holds it."""


def edit_file(path: Path) -> Path:
    """The file itself, or the one in a folder.

    Raises:
        EditkitError: a folder that holds none, and what it is instead.
    """
    try:
        is_folder = path.is_dir()
        if not is_folder or (path / TUNED_NAME).is_file():
            return path / TUNED_NAME if is_folder else path
        names = sorted(file.name for file in path.iterdir())
    except OSError as error:
        raise EditkitError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    raise EditkitError(
        f"{path}: expected an edit file (.safetensors) or a folder that `editkit refine` or `editkit hide` made; this "
        f"folder {_kind(names)}"
    )


def _kind(names: list[str]) -> str:
    edits = [name for name in names if name.endswith(WEIGHTS)]
    known = next((what for name, what in KINDS if name in names), None)
    if known is not None:
        return known
    if edits:
        return f"holds {_listed(edits)}; give one of them"
    return f"holds {_listed(names)}" if names else "is empty"


def _listed(names: list[str]) -> str:
    more = len(names) - MOST_SHOWN
    return ", ".join(names[:MOST_SHOWN]) + (f" and {more} more" if more > 0 else "")
