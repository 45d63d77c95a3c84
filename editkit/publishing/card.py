"""`editkit card`: the model card of an edited model, from what its edit file says and what was measured of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editkit.files.atomic import check_free, write_text_atomic
from editkit.model.editable import ModelLike
from editkit.publishing.measured import read_attacks, read_plain
from editkit.publishing.page import page
from editkit.publishing.push import Push, check_repository
from editkit.publishing.subject import Subject, read_subject

if TYPE_CHECKING:
    from huggingface_hub import ModelCard, ModelCardData

Path_ = str | os.PathLike[str]


@dataclass(frozen=True)
class Card:
    """A card as it was made.

    Attributes:
        model_card: of huggingface_hub, with `data`, `text` and `content`.
        push: what is to be put where on the Hub; None: nothing.
        commit: the address of the commit; None where nothing was sent.
    """

    model_card: ModelCard
    push: Push | None = None
    commit: str | None = None

    @property
    def text(self) -> str:
        """The whole file."""
        return str(self.model_card)


def card(
    edit: Path_,
    model: ModelLike = None,
    results: Sequence[Path_] = (),
    attacks: Sequence[Path_] = (),
    out: Path_ | None = None,
    push: str | None = None,
    dry_run: bool = False,
    force: bool = False,
) -> Card:
    """Write the model card of an edited model, with the Hub's metadata.

    It says what was erased, how, and for which weights, by their hashes; the rates of plain prompts and under attack,
    with intervals; what becomes of other concepts; what is known to bring the concept back; how to load it, and what
    the base says of its licence. What was not measured is said to be so.

    Args:
        edit: an edit file, or the folder of `refine` or `hide`.
        model: the base. Then the edit is checked against it. Default: what the edit's record names, where it is on this
            machine; its licence is all that is read of it.
        results: folders of `evaluate`, or their `results.json`, that measured this very file.
        attacks: folders of `attack`, or their `attack.json`, of this very file.
        out: file to write, such as `README.md`; None: none.
        push: a repository of the Hub, `ORG/NAME`, to make and to put the card and the edit file in.
        dry_run: send nothing.
        force: replace the file at `out`, and add to a repository that is there already.

    Raises:
        EditkitError: results or attacks are of another edit or model, the edit does not fit `model`, `out` cannot be
            written, or the Hub does not take it.

    >>> import tempfile
    >>> from editkit.erasure.erase import erase
    >>> from editkit.variants.edit_file import save_edit
    >>> file = Path(tempfile.mkdtemp(), "church.safetensors")
    >>> save_edit(erase("emoji", ["church"]), file)
    >>> made = card(file)
    >>> made.model_card.data.library_name, "Attacks: not measured" in made.text
    ('editkit', True)
    """
    if out is not None:
        check_free(Path(out), force)
    if push is not None:
        check_repository(push)  # before any work
    subject = read_subject(edit, model)
    made = make_card(subject, results, attacks, push)
    if out is not None:
        write_text_atomic(Path(out), made.text, force)
    if made.push is None or dry_run:
        return made
    return replace(made, commit=made.push.send(force))


def make_card(
    subject: Subject, results: Sequence[Path_] = (), attacks: Sequence[Path_] = (), repository: str | None = None
) -> Card:
    """The card alone, and what would be pushed; see `card`."""
    from huggingface_hub import ModelCard

    plain = [read_plain(path, subject) for path in results]
    attacked = [read_attacks(path, subject) for path in attacks]
    text = page(subject, plain, attacked, repository)
    made = Card(ModelCard(f"---\n{metadata(subject).to_yaml()}\n---\n\n{text}"))
    return made if repository is None else replace(made, push=Push.of(repository, made.text, subject.file))


def metadata(subject: Subject) -> ModelCardData:
    """What the Hub sorts by. A base that is not on the Hub is named in the text alone."""
    from huggingface_hub import ModelCardData

    record = subject.record
    relation = "finetune" if subject.is_tuned else "adapter"
    known: dict[str, Any] = dict(subject.licence.stated) or {"license": "unknown"}
    if subject.hub_id is not None:
        known |= {"base_model": subject.hub_id, "base_model_relation": relation}
    tags = ["editkit", "concept-erasure", str(record.get("method")), str(record.get("family"))]
    return ModelCardData(**known, library_name="editkit", pipeline_tag="text-to-image", tags=list(dict.fromkeys(tags)))
