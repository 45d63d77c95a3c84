"""What a gradient stage is asked: checked and filled in before any weight is read."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from editkit.concepts.attributes import Attribute, attributes_of
from editkit.concepts.templates import check_concepts
from editkit.edits.method import Options
from editkit.edits.variant import Variant
from editkit.embeddings.learned import Learned
from editkit.erasure.erase import erase
from editkit.erasure.near import nearest_words
from editkit.erasure.pictured import Pictured, check_guides
from editkit.erasure.words import check_known, words_to_protect
from editkit.errors import EditkitError
from editkit.hardware import check_device
from editkit.model.editable import EditableModel
from editkit.tuning.masks import Shown
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
        pictures: of each concept, to learn it from.
        learned: concepts that are known from pictures.
        shown: these, in the model.
        balanced: the attributes with what is wanted of each.
        asked: what prompts say for the concepts and for what each becomes: several texts where pictures taught several.
    """

    model: EditableModel
    concepts: Sequence[str]
    start: Variant | None
    guides: Sequence[str]
    options: RefineOptions
    vocabulary: Sequence[str] | None = None
    device: str | None = None
    tracker: str | None = None
    pictures: Sequence[Shown] = ()
    attributes: Sequence[str | Attribute] = ()
    ratios: Sequence[float] | None = None
    learned: Sequence[Learned] = ()
    shown: Pictured = field(init=False, repr=False)
    asked: list[tuple[str, str]] = field(init=False)
    balanced: tuple[Attribute, ...] = field(init=False)

    def __post_init__(self) -> None:
        if self.device is not None:
            check_device(self.device)
        model, start = self.model, self.start
        self.shown = Pictured.of(model, self.learned)
        check_trainable(model.source)
        check_precision(model.source, self.options.mixed_precision)
        if self.options.loss.reads_attention and model.source.family.component != "unet":
            raise EditkitError(
                f"--objective {self.options.objective}: reads a UNet's attention to the prompt, which "
                f"{model.source.family.name} has not by itself; use another objective"
            )
        named = list(self.concepts)
        if not named and not self.learned and start is not None:
            named = list(start.record.get("concepts", []))
        self.concepts = [*named, *(each.word for each in self.learned if each.word not in named)]
        check_concepts(self.concepts)
        check_known(model, named)
        check_guides(self.shown, self.concepts, self.guides)
        if start is not None:
            check_fit(start, model)
        check_start(start, Parameters.parse(self.options.param))
        self.balanced = self._attributes()
        self.guides = _guides(self, named)
        self.asked = self._asked(named)
        self._check_pictures()

    def _asked(self, named: Collection[str]) -> list[tuple[str, str]]:
        """What prompts say for the concepts, and for what each becomes: the words that were named, and a token of every
        restart of those that are known from pictures. Where an objective mixes attributes, each of them in turn."""
        if self.options.loss.balances == "mixture":
            return [(concept, each.prompt(concept)) for concept in self.concepts for each in self.balanced]
        asked: list[tuple[str, str]] = []
        for concept, guide in zip(self.concepts, self.guides, strict=True):
            tokens = self.shown.asked(concept, guide)
            if concept in named:
                asked.append((concept, tokens[0][1] if tokens else guide))
            asked += tokens
        return asked

    def _check_pictures(self) -> None:
        """Refuse pictures and masks that are not read, or not of each concept; and to fuse what has no words."""
        name, loss, concepts = self.options.objective, self.options.loss, [said for said, _ in self.asked]
        if loss.apart and self.learned and len(self.concepts) > 1:
            raise EditkitError(
                f"--picture: --objective {name} fuses concepts by their words, which {self.learned[0].word!r} has not; "
                "train it alone"
            )
        if not self.pictures:
            return
        if loss.pictures_of != "e":
            raise EditkitError(f"--pictures: --objective {name} reads none of the concept; use --objective mace or fmn")
        if loss.reads_attention != "object" and any(shown.masks for shown in self.pictures):
            raise EditkitError(f"--masks: --objective {name} reads whole pictures; leave them out, or use mace")
        if len(self.pictures) == 1 < len(concepts):
            raise EditkitError(f"--pictures: show one concept, not {', '.join(concepts)}; name it with --concept")
        if len(self.pictures) != len(concepts):
            raise EditkitError(
                f"--pictures: {len(self.pictures)} folders but {len(concepts)} concepts; give one for each"
            )

    @property
    def stands_for(self) -> list[str]:
        """The concept that each of `asked` is said for."""
        owners = {token: concept for concept in self.concepts for token, _ in self.shown.asked(concept, "")}
        return [owners.get(text, text) for text, _ in self.asked]

    def _attributes(self) -> tuple[Attribute, ...]:
        name, balances = self.options.objective, bool(self.options.loss.balances)
        if not balances and (self.attributes or self.ratios is not None):
            raise EditkitError(f"--attribute: --objective {name} balances nothing; use --objective debias")
        if not balances:
            return ()
        if self.learned:
            raise EditkitError(f"--picture: --objective {name} balances what has a word; leave it out")
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
    words = {text for text, _ in request.asked}
    named = [concept for concept in request.concepts if concept in words]
    return erase(request.model, named, options=Options("uce"), checked=False, pictures=request.learned)


def _guides(request: StageRequest, named: Collection[str]) -> list[str]:
    """One for each concept; where masks say what it becomes, an empty one."""
    model, concepts, options, shown = request.model, request.concepts, request.options, request.shown
    given = list(request.guides) or (["nearest"] if options.objective == "ca" else [""])
    given = given * len(concepts) if len(given) == 1 else given
    if len(given) != len(concepts):
        raise EditkitError(f"{len(concepts)} concepts but {len(given)} guides; give one guide, or one for each concept")
    given = ["" if shown.is_masked(concept) else guide for concept, guide in zip(concepts, given, strict=True)]
    if "nearest" not in given:
        return given
    said = [concept if concept in named else shown.asked(concept, "")[0][0] for concept in concepts]
    words = words_to_protect(shown.knowing, said, [])
    near = nearest_words(shown.knowing.encoder, said, words, model.gram)
    return [word if guide == "nearest" else guide for word, guide in zip(near, given, strict=True)]
