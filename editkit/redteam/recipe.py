"""How an edit is made again from its record, with more to erase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from editkit.edits.edit import Edit
from editkit.edits.method import Method, Options
from editkit.erasure.captions import Captions, CaptionsLike
from editkit.erasure.erase import erase
from editkit.errors import EditkitError
from editkit.model.editable import EditableModel


@dataclass(frozen=True)
class Recipe:
    """How an edit is made again, with more to erase."""

    model: EditableModel
    concepts: tuple[str, ...]
    guides: tuple[str, ...]
    preserve: tuple[str, ...]
    options: Method
    synonyms: Mapping[str, Sequence[str]]
    found: Mapping[str, Sequence[str]]
    weight: float
    vocabulary: Sequence[str] | None
    checked: bool
    prior: Captions | None = None

    @classmethod
    def of(
        cls,
        edit: Edit,
        model: EditableModel,
        vocabulary: Sequence[str] | None,
        give_up: Sequence[str],
        prior: CaptionsLike | None = None,
    ) -> Recipe:
        """From the record, and the words and captions that it does not hold.

        Raises:
            EditkitError: it does not make the edit again.
        """
        record = edit.record
        if record.get("from"):
            raise EditkitError(
                "harden: the edit erases its concepts from one thing alone, and a found prompt is erased everywhere; "
                "harden an edit without --from"
            )
        if "pictures" in record:
            raise EditkitError(
                f"harden: {next(iter(record['pictures']))!r} was erased by pictures, which the record does not hold; "
                "attack the edit with cce, and erase what that finds by words"
            )
        captions = None if prior is None else Captions.of(prior)
        _check_prior(record.get("prior"), captions)
        try:
            given = dict(record["options"])
            recipe = cls(
                model, tuple(record["concepts"]), tuple(record["guides"]), tuple(record["preserve"]),
                Options(given.pop("method"), **given), record.get("synonyms", {}), record.get("found", {}),
                float(record.get("found_weight", 1.0)),
                vocabulary, bool(record.get("checked", True)), captions,
            )  # fmt: skip
        except KeyError as error:
            raise EditkitError(
                f"harden: the edit's record has no {error.args[0]!r}, so it cannot be made again; harden what `editkit "
                "erase` made"
            ) from error
        if not recipe.options.takes_found:
            raise EditkitError(f"harden: --method {recipe.options.name} erases no found prompts; use --method uce")
        recipe._check(edit)
        if give_up:
            words = model.own_words() if vocabulary is None else vocabulary
            unknown = [word for word in give_up if word not in words]
            if unknown:
                raise EditkitError(f"--give-up {unknown[0]}: is no protected word; name one that a round has named")
            recipe = replace(recipe, vocabulary=[word for word in words if word not in give_up])
        return recipe

    def made(self, found: Mapping[str, Sequence[str]], weight: float | None = None) -> Edit:
        """The edit that erases the prompts in `found`, too; `weight` in place of the record's."""
        return erase(
            self.model, self.concepts, self.guides, self.preserve, self.options, self.vocabulary, self.checked,
            "leave", self.synonyms, found or None, self.weight if weight is None else weight, self.prior,
        )  # fmt: skip

    def _check(self, edit: Edit) -> None:
        again = self.made(self.found)
        for key, map in edit.maps.items():
            same = key in again.maps and again.maps[key].width == map.width
            mine = map.to(self.model.device).dense()
            apart = float((again.maps[key].dense() - mine).norm() / mine.norm()) if same else 1.0
            if apart > 1e-4:
                raise EditkitError(
                    "harden: the edit is not what its record makes again: it was composed, scaled or made with words "
                    "that the record does not hold; give these with --vocabulary, or harden what `editkit erase` made"
                )


def _check_prior(recorded: Mapping[str, Any] | None, given: Captions | None) -> None:
    if recorded is None and given is not None:
        raise EditkitError("harden: --prior: the edit was made without captions; leave them out")
    if recorded is not None and (given is None or given.sha256 != recorded["sha256"]):
        came = "none" if given is None else "others"
        raise EditkitError(
            f"harden: the edit was made with {recorded['captions']} captions, got {came}; give the same with --prior"
        )
