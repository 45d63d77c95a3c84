"""`editkit compose`: one edit of several, or part of the way of one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from pathlib import Path

from editkit.edits.compose import compose as in_turn
from editkit.edits.compose import scale as scaled
from editkit.edits.edit import Edit, check_ungated
from editkit.errors import EditkitError
from editkit.variants.edit_file import load_linear, save_edit


def compose(
    edits: Sequence[Edit | Path | str], out: Path | str | None = None, scale: float = 1.0, force: bool = False
) -> Edit:
    """Apply edits one after another, and go `scale` of the way.

    Args:
        edits: edits or their files, the first one first: the order matters.
        out: file to write, or None.
        scale: 0 is no edit, 1 the whole of it.
        force: replace an edit file that is at `out`.

    Raises:
        EditkitError: no edit, edits for different models, or `out` is there already.

    >>> from editkit.erasure.erase import erase
    >>> church = erase("emoji", ["church"], vocabulary=["dog", "house"])
    >>> half = compose([church], scale=0.5)
    >>> half.record["scale"], bool(half.map.U.allclose(church.map.U / 2))
    (0.5, True)
    """
    if not edits:
        raise EditkitError("no edit to compose; give at least one edit file")
    read = [edit if isinstance(edit, Edit) else load_linear(edit) for edit in edits]
    for edit in read:
        check_ungated(edit)
    whole = reduce(in_turn, read)
    if scale != 1:
        whole = scaled(whole, scale)
    if out is not None:
        save_edit(whole, Path(out), force)
    return whole
