"""What a gradient stage is asked: checked and filled in before any weight is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from editkit.concepts.attributes import Attribute, attributes_of
from editkit.concepts.templates import check_concepts
from editkit.edits.method import Options
from editkit.edits.variant import Variant
from editkit.erasure.erase import erase
from editkit.erasure.near import nearest_words
from editkit.erasure.words import check_known, words_to_protect
from editkit.errors import EditkitError
from editkit.hardware import check_device
from editkit.model.editable import EditableModel
from editkit.tuning.options import RefineOptions
from editkit.tuning.parameters import Parameters
from editkit.tuning.result import check_start
from editkit.tuning.trainable import check_precision, check_trainable
from editkit.variants.fit import check_fit


@dataclass
class StageRequest:
    """What is trained on what; concepts and guides are filled in and checked.

    Attributes:
        attributes: what concepts are balanced across, where the objective balances.
        ratios: what is wanted of each; None: what they say themselves, else all alike.
    """

    model: EditableModel
    concepts: Sequence[str]
    start: Variant | None
    guides: Sequence[str]
    options: RefineOptions
    vocabulary: Sequence[str] | None = None
    device: str | None = None
    tracker: str | None = None
    pictures: Sequence[Image.Image] = ()
    attributes: Sequence[str | Attribute] = ()
    ratios: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if self.device is not None:
            check_device(self.device)
        model, start = self.model, self.start
        check_trainable(model.source)
        check_precision(model.source, self.options.mixed_precision)
        if self.options.loss.reads_attention and model.source.family.component != "unet":
            raise EditkitError(
                f"--objective {self.options.objective}: reads a UNet's attention to the prompt, which "
                f"{model.source.family.name} has not by itself; use another objective"
            )
        self.concepts = list(self.concepts) or list(start.record.get("concepts", []) if start is not None else [])
        check_concepts(self.concepts)
        check_known(model, self.concepts)
        if start is not None:
            check_fit(start, model)
        check_start(start, Parameters.parse(self.options.param))
        self.balanced = self._attributes()
        self.guides = _guides(model, self.concepts, self.guides, self.options)

    def _attributes(self) -> tuple[Attribute, ...]:
        name, balances = self.options.objective, bool(self.options.loss.balances)
        if not balances and (self.attributes or self.ratios is not None):
            raise EditkitError(f"--attribute: --objective {name} balances nothing; use --objective debias")
        if not balances:
            return ()
        if any(guide.strip() for guide in self.guides):
            raise EditkitError(f"--guide: --objective {name} has the attributes for guides; leave it out")
        if not self.options.bank:
            raise EditkitError(
                f"--no-bank: --objective {name} reads whole trajectories of its attributes; leave it out"
            )
        made = attributes_of(self.attributes, self.ratios, self.concepts)
        for each in made:
            try:
                check_known(self.model, [each.prompt(self.concepts[0])])
            except EditkitError as error:
                raise EditkitError(f"--attribute {each.name}: {error}") from error
        return made

    @property
    def targets(self) -> list[tuple[str, str]]:
        """Every concept with what it becomes: its guide, or each attribute of it in turn."""
        if self.options.loss.balances == "mixture":
            return [(concept, each.prompt(concept)) for concept in self.concepts for each in self.balanced]
        return list(zip(self.concepts, self.guides, strict=True))

    @property
    def shares(self) -> tuple[float, ...]:
        """Of every target, of the points; empty: all alike."""
        if self.options.loss.balances != "mixture":
            return ()
        return tuple(each.ratio / len(self.concepts) for _ in self.concepts for each in self.balanced)


def ranking_edit(request: StageRequest) -> Variant | None:
    """The closed-form edit that a search ranks candidates by before anything is trained: the start, or UCE."""
    if not (request.options.loss.search_reads and request.options.finds.ranks_by_edit):
        return None
    if request.start is not None and request.start.kind == "edit":
        return request.start
    return erase(request.model, request.concepts, options=Options("uce"), checked=False)


def _guides(model: EditableModel, concepts: Sequence[str], guides: Sequence[str], options: RefineOptions) -> list[str]:
    given = list(guides) or (["nearest"] if options.objective == "ca" else [""])
    given = given * len(concepts) if len(given) == 1 else given
    if len(given) != len(concepts):
        raise EditkitError(f"{len(concepts)} concepts but {len(given)} guides; give one guide, or one for each concept")
    if "nearest" not in given:
        return given
    words = words_to_protect(model, concepts, [])
    near = nearest_words(model.encoder, concepts, words, model.gram)
    return [word if guide == "nearest" else guide for word, guide in zip(near, given, strict=True)]
