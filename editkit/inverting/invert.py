"""`editkit invert`: learn a token from pictures. Pictures → latents → vectors of every restart → one file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from editkit.concepts.profile import Profile, ProfileOrFile
from editkit.concepts.templates import NEUTRAL_STYLES, NEUTRAL_THINGS
from editkit.drawing.files import Shard
from editkit.drawing.pipelines import check_drawable, open_denoiser
from editkit.edits.tuned import Tuned
from editkit.embeddings.learned import Learned
from editkit.errors import EditkitError
from editkit.files.names import file_stem
from editkit.inverting.options import InvertOptions
from editkit.inverting.search import Search, Side
from editkit.inverting.soft_tokens import SoftTokens, one_token
from editkit.inverting.starts import best_words, near_words
from editkit.inverting.unfinished import Starts, Unfinished, check_begun, folder_beside
from editkit.model.apply import apply_edit
from editkit.model.editable import EditableModel, ModelLike, check_learnable, open_model
from editkit.tuning.masks import Shown
from editkit.variants.fit import check_fit
from editkit.variants.learned_file import check_free_for_learned, save_learned
from editkit.versions import versions

Pictures = str | os.PathLike[str] | Sequence[Image.Image]


@dataclass(frozen=True)
class Chosen:
    """The words that were chosen because none was given, to tell.

    Attributes:
        word: for what is learned; empty where it was given.
        kept: for what masks leave; empty where it was given, or there are no masks.
    """

    word: str
    kept: str

    def __str__(self) -> str:
        said = [repr(self.word)] if self.word else []
        said += [f"{self.kept!r} for what stays"] if self.kept else []
        return f"begun at the words with which the model denoises best: {', '.join(said)}"


@dataclass(frozen=True)
class Restart:
    """What one restart came to, to tell.

    Attributes:
        number, word: which, from 1, and the word that it started from.
        steps: that it took.
        start, loss: on held-out noise, of the word itself and of what was learned.
    """

    number: int
    word: str
    steps: int
    start: float
    loss: float

    def __str__(self) -> str:
        came = f"{self.start:.4f} → {self.loss:.4f}"
        return f"restart {self.number}, from {self.word!r}: loss {came} in {self.steps} steps"


def invert(
    model: ModelLike,
    pictures: Pictures,
    word: str | None = None,
    out: str | os.PathLike[str] | None = None,
    options: InvertOptions | None = None,
    masks: Pictures | None = None,
    kept: str | None = None,
    style: bool | None = None,
    device: str | None = None,
    profile: ProfileOrFile | None = None,
    resume: bool = False,
    force: bool = False,
    tell: Callable[[Restart | Chosen], None] = lambda told: None,
    tuned: Tuned | None = None,
) -> Learned:
    """Learn a token from pictures (textual inversion, Gal et al. 2022): the embedding that lets the model denoise them.

    Only the embedding is learned, through the text encoder, from several words and seeds. With masks two are, each on a
    loss that the other part has none in: of what these hide, and of what stays. Ctrl-C ends it with what was learned so
    far.

    Args:
        model: as `open_model` takes it; its text encoders must be CLIP's.
        pictures: a folder of them, or the pictures.
        word: what they show, one token; with masks, what these hide. Default: the word of the model's vocabulary with
            which it denoises them best. What is learned goes by that name.
        out: file to write, or None.
        options: how to learn; default: `InvertOptions()`.
        masks: a folder of masks, each named as its picture, or the masks; white is what stays.
        kept: with masks, a word of one token for what stays; default: chosen likewise.
        style: the pictures show a style and not a thing; default: what the model's profile says of the word.
        device: `cpu`, `cuda`, ...; default: a GPU if there is one.
        profile: what the model brings along, or a file that says it.
        resume: go on where an inversion to `out` was stopped, to the result that it would have had.
        force: replace an inversion that is at `out`.
        tell: called when words were chosen, and after every restart.
        tuned: what training made of the model, which is then to denoise them.

    Raises:
        EditkitError: another kind of model, pictures or masks that do not fit, a word of several tokens, `out` is
            there already, or nothing to resume.

    >>> from PIL import Image
    >>> quick = InvertOptions(steps=1, restarts=1, held=2, points=1)
    >>> learned = invert("emoji", [Image.new("RGB", (64, 64), "red")], "church", options=quick)
    >>> learned.token, learned.best[0].shape
    ('<church>', torch.Size([1, 512]))
    """
    options, out = options or InvertOptions(), None if out is None else Path(out)
    opened = open_model(model, profile=profile)
    check_learnable(opened.source)
    check_drawable(opened.source)
    if out is not None:
        check_begun(out, resume, force)
        check_free_for_learned(out, force or resume)
    shown = _shown(pictures, masks)
    for each in filter(None, (word, kept)):
        one_token(opened.encoder.reader.tokenizer, each)
    style = opened.profile.is_style(word or "") if style is None else style
    same = {
        "model": opened.source.name, "text_encoder_sha256": opened.text_encoder_sha256,
        "pictures and masks": shown.sha256, "word": word, "kept": kept, "style": style, **options.record,
        "tuned": None if tuned is None else tuned.record.get("created"),
    }  # fmt: skip
    state = Unfinished(None if out is None else folder_beside(out), same)
    if resume:
        state.load()
    search = _search(opened, shown, options, style, device, tuned)
    if not state.starts:
        state.starts = _starts(opened, search, word, kept, style)
        chosen = Chosen("" if word else state.starts[0][0], "" if kept else state.starts[0][1])
        if chosen.word or chosen.kept:
            tell(chosen)
    word = word or state.starts[0][0]
    stopped = _restarts(search, state, tell)
    found = sorted(state.found, key=lambda each: each.loss)
    learned = Learned(
        f"<{file_stem([word])}>",
        word,
        tuple(each.erased for each in found),
        tuple(each.kept for each in found if each.kept is not None),
        {
            "model": opened.source.name, "family": opened.source.family.name,
            "text_encoder_sha256": opened.text_encoder_sha256, "pictures": len(shown.pictures), "style": style,
            **({} if masks is None else {"stays": kept or state.starts[0][1]}),
            "options": options.record, "starts": [each.word for each in found], "losses": [each.loss for each in found],
            **({"stopped": True} if stopped else {}), "versions": versions(),
        },
    )  # fmt: skip
    if out is not None:
        save_learned(learned, out, force or resume)
        if not stopped:
            state.done()
    return learned


def neutral_templates(profile: Profile, style: bool) -> tuple[str, ...]:
    """Captions that say no more of a picture than what is learned of it. A model that knows few words has its own."""
    if profile.knows is None:
        return NEUTRAL_STYLES if style else NEUTRAL_THINGS
    if not style:
        return profile.vocabulary_templates
    return tuple(each for each in profile.style_templates if profile.named_in(each) is None) or profile.style_templates


def _shown(pictures: Pictures, masks: Pictures | None) -> Shown:
    if isinstance(pictures, str | os.PathLike):
        if masks is not None and not isinstance(masks, str | os.PathLike):
            raise EditkitError("masks: expected a folder, as the pictures are in one; give both alike")
        return Shown.read(Path(pictures), None if masks is None else Path(masks))
    if isinstance(masks, str | os.PathLike):
        raise EditkitError("masks: expected pictures, as the pictures are given; give both alike")
    return Shown.given(pictures, masks)


def _search(
    model: EditableModel, shown: Shown, options: InvertOptions, style: bool, device: str | None, tuned: Tuned | None
) -> Search:
    denoiser = open_denoiser(model.source, device or Shard.from_environment().device())
    if tuned is not None:
        check_fit(tuned, model)
        apply_edit(denoiser.pipe, tuned)
    denoiser.network.requires_grad_(False)
    tokens = SoftTokens.of(denoiser, options.vectors)
    for encoder in tokens.encoders:
        encoder.requires_grad_(False)
    return Search.of(tokens, neutral_templates(model.profile, style), shown, options)


def _starts(model: EditableModel, search: Search, word: str | None, kept: str | None, style: bool) -> Starts:
    """Of every restart: the given words and those near them, or the best ones."""

    def words(given: str | None, side: Side) -> list[str]:
        if given:
            return near_words(model, given, count, style)
        return best_words(model, search.tokens.denoiser, search.templates, side.pictures, options.seed, count, style)

    options, count = search.options, search.options.restarts
    shown = words(word, search.hidden or search.whole)
    return list(zip(shown, [""] * count if search.left is None else words(kept, search.left), strict=True))


def _restarts(search: Search, state: Unfinished, tell: Callable[[Restart | Chosen], None]) -> bool:
    """Do those that are not done. Ctrl-C leaves what there is, of which there is at least a first; whether it did."""
    for number in range(len(state.found), len(state.starts)):
        each = search.run(number, *state.starts[number], state.begun, state.keep)
        state.begun = None
        state.found.append(each)
        tell(Restart(number + 1, each.word, each.steps, each.start, each.loss))
        if each.stopped:
            return True
    return False
