"""`editkit verify`: is a folder or a file a base model with an edit in it?"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from editkit.edits.edit import check_ungated
from editkit.edits.variant import Variant
from editkit.model.checkpoints.source import BUNDLED, Source, find, is_model
from editkit.model.checkpoints.stored import Place, Stored
from editkit.model.editable import open_model
from editkit.model.encoder_weights import encoders_of
from editkit.variants.edit_file import load_edit
from editkit.variants.rounding import CLOSE, Close, Difference
from editkit.variants.whole import Whole, compare_whole

YES, NO, NOT_AT_HAND = "yes", "no", "not at hand"


@dataclass(frozen=True)
class Verification:
    """What `verify` found.

    Attributes:
        answer: `yes`, `no`, or `not at hand`: the base that the edit was made for is not among the models given.
        why: in a sentence.
        model: the model that was looked at, as it was typed.
        base: the base that it was compared with; None where none was needed or none was at hand.
        scope: `whole`: every weight was compared; `edited`: those that the edit may change.
        compared: tensors that were.
        close: how near the farthest edited tensor is to the expected one: `bits`, `cast` (within the rounding of one
            cast), or `float32` (within what float32 keeps of the edit).
        unedited: whether it is the base without any edit.
        difference: the first tensor that differs, what was expected there, and by how much it differs at most.
        unlike: files that are no weights, or parts that a pipeline can do without, in which it differs from the base.
        passed_over: weights in it that nothing was compared with.
    """

    answer: Literal["yes", "no", "not at hand"]
    why: str
    model: str
    base: str | None = None
    scope: Literal["whole", "edited"] = "edited"
    compared: int = 0
    close: Close = "bits"
    unedited: bool = False
    difference: Difference | None = None
    unlike: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def verify(
    model: str | os.PathLike[str],
    edit: Variant | str | os.PathLike[str],
    base: str | os.PathLike[str] | None = None,
    tokenizer: Path | None = None,
) -> Verification:
    """Whether `model` is the base of `edit` with that edit in it, from hashes and weights.

    The edit's record holds the hash of the base's projections. The edit is applied to these as `export` does it, cast
    to the dtype of the model, and compared tensor by tensor. The answer says how near all of them are.

    Args:
        model: a diffusers folder, or a single file of SD 1.x, SD 2.x or SDXL.
        edit: what `erase`, `edit`, `compose` or `refine` made, or its file or folder.
        base: the unedited model. With it, every other weight must be the base's, too. Default: the model that the
            edit's record names, where it is on this machine; then only what the edit may change is compared, and the
            hash of the text encoder.
        tokenizer: folder of the tokenizer, for a single file whose tokenizer is not CLIP's.

    Raises:
        EditkitError: one of them cannot be read, is kept in float8 or quantised, or the edit is behind a gate.

    >>> from editkit.erasure.erase import erase
    >>> found = verify("emoji", erase("emoji", ["church"], vocabulary=["dog", "house"]))
    >>> found.answer, found.unedited
    ('no', True)
    """
    read = load_edit(os.fspath(edit)) if isinstance(edit, str | os.PathLike) else edit
    check_ungated(read)
    with ExitStack() as files:
        mine = files.enter_context(Stored(find(model, tokenizer)))
        given = None if base is None else files.enter_context(Stored(find(base, tokenizer)))
        named = None if given is not None else _named(read)
        known = given or (None if named is None else files.enter_context(Stored(named)))
        return _Verifier(read, mine, known, given is not None).verify()


def _named(edit: Variant) -> Source | None:
    """The model that the record names, where that is on this machine: nothing is fetched."""
    name = str(edit.record.get("model", ""))
    return find(name) if name == BUNDLED or (name and is_model(Path(name).expanduser())) else None


@dataclass(frozen=True)
class _Verifier:
    """One question.

    Attributes:
        mine: the model in question.
        known: the base, or what may be it.
        whole: whether all of the base counts.
    """

    edit: Variant
    mine: Stored
    known: Stored | None
    whole: bool

    def verify(self) -> Verification:
        source, record = self.mine.source, self.edit.record
        if record.get("family") != source.family.name:
            return self._no(f"it is {source.family.title}, and the edit was made for the family {record.get('family')}")
        places = self.mine.denoiser(self.edit.names)
        missing = sorted({*(self.edit.names or ())} - {*places})
        if missing or not places:
            gone = missing[0] if missing else "projections of the prompt"
            return self._no("", Difference(gone, "expected the edited numbers, found no such tensor"))
        unedited = self._is_base(self.mine)
        is_known = self.known is not None and self._is_base(self.known)
        base = self.known if is_known else self.mine if unedited or not self._needs_base else None
        answer = self._foreign_text() or self._compare(places, base)
        if unedited and answer.answer == NO:
            bare = "it is the unedited base: its projections have the hash of those that the edit was made for"
            return replace(answer, unedited=True, why=f"{bare}; {answer.why}")
        return answer

    @property
    def _needs_base(self) -> bool:
        """Where whole tensors were trained, what they replaced does not matter."""
        return self.edit.kind == "edit" or self.edit.is_low_rank

    def _is_base(self, stored: Stored) -> bool:
        """Whether it has the projections that the record has the hash of; of an edit of several checkpoints, whether it
        was given as the base."""
        edit = self.edit
        if stored.source.family.name != edit.record.get("family"):
            return False
        if edit.base:
            places = stored.denoiser(edit.names)
            return places.keys() == {*edit.base} and all(
                stored.fingerprint({name: places[name]}) == edit.base[name] for name in places
            )
        recorded = edit.record.get("projections_sha256")
        if recorded is None:
            return self.whole and stored is self.known
        return stored.fingerprint(stored.denoiser()) == recorded

    def _foreign_text(self) -> Verification | None:
        """`no`, where the model has another text encoder than the base, and should not."""
        recorded = self.edit.record.get("text_encoder_sha256")
        if encoders_of(self.edit.names):
            return None
        if open_model(self.mine.source).text_encoder_sha256 == recorded:
            return None
        return self._no("its text encoder is another than that of the base, as the hash says")

    def _compare(self, places: Mapping[str, Place], base: Stored | None) -> Verification:
        if base is None:
            return Verification(NOT_AT_HAND, self._without_base(), self.mine.source.name)
        edited = self._edited(places, base)
        found = edited
        if self.whole and edited.difference is None and base is self.known and self._lie_alike(base):
            found = compare_whole(self.edit, places, self.mine, base)
        scope = "edited" if found is edited else "whole"
        made = Verification(
            NO if found.difference else YES, "", self.mine.source.name,
            None if base is self.mine else base.source.name, scope, found.compared, found.close,
            difference=found.difference, unlike=tuple(found.unlike), passed_over=tuple(found.passed_over),
        )  # fmt: skip
        return replace(made, why="; ".join(self._why(made)))

    def _edited(self, places: Mapping[str, Place], base: Stored) -> Whole:
        """What the edit may change, in the order of the names."""
        found, before = Whole(), base.denoiser(self.edit.names)
        for name, place in places.items():
            edited = name if self.edit.changes(name) else None
            if name not in before:
                found.difference = Difference(name, f"expected no such tensor, {base.source.name} has none")
            if name not in before or not found.take(self.mine, place, base, before[name], self.edit, edited):
                return found
        missing = sorted({*before} - {*places})
        if missing:
            found.difference = Difference(missing[0], "expected the edited numbers, found no such tensor")
        return found

    def _lie_alike(self, base: Stored) -> bool:
        return self.mine.source.is_single_file == base.source.is_single_file

    def _why(self, made: Verification) -> Iterator[str]:
        if made.difference is not None:
            yield _told(made.difference)
            return
        what = "every weight" if made.scope == "whole" else "every tensor that the edit may change"
        yield f"{what} is as expected, {CLOSE[made.close]} ({made.compared} tensors)"
        if made.scope == "edited":
            apart = self.whole and self.known is not None and not self._lie_alike(self.known)
            more = "the base in the same form, folder or single file" if apart else "the base with --base"
            known = "" if encoders_of(self.edit.names) else "the text encoder has the recorded hash; "
            yield f"{known}nothing else was compared, give {more} for that"
        if made.unlike:
            yield f"not as in the base, and no weights: {', '.join(made.unlike)}"
        if made.passed_over:
            yield f"not compared, since no base has them: {', '.join(made.passed_over)}"

    def _without_base(self) -> str:
        given = "" if self.known is None else f", and {self.known.source.name} is another"
        return (
            "it has the family and the text encoder of the base, and is not the unedited base; only the base can tell "
            f"whether it is the edited one{given}: give it with --base"
        )

    def _no(self, why: str, difference: Difference | None = None) -> Verification:
        why = why or ("" if difference is None else _told(difference))
        return Verification(NO, why, self.mine.source.name, difference=difference)


def _told(difference: Difference) -> str:
    most = "" if difference.largest is None else f"; the largest difference is {difference.largest:.3g}"
    return f"{difference.tensor} differs: {difference.expected}{most}"
