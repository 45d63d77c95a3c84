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
from editkit.embeddings.learned import Learned
from editkit.erasure.near import closeness
from editkit.errors import EditkitError
from editkit.files.names import file_stem
from editkit.inverting.masks import Shown
from editkit.inverting.options import InvertOptions
from editkit.inverting.search import Found, Search
from editkit.inverting.soft_tokens import SoftTokens, one_token
from editkit.model.editable import EditableModel, ModelLike, check_learnable, open_model
from editkit.variants.learned_file import check_free_for_learned, save_learned
from editkit.versions import versions

NEAR = 200
"""Words that other starts are chosen from, at most: each is a run of the text encoder."""
Pictures = str | os.PathLike[str] | Sequence[Image.Image]


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


def invert(
    model: ModelLike,
    pictures: Pictures,
    word: str,
    out: str | os.PathLike[str] | None = None,
    options: InvertOptions | None = None,
    masks: Pictures | None = None,
    kept: str = "",
    style: bool | None = None,
    device: str | None = None,
    profile: ProfileOrFile | None = None,
    force: bool = False,
    tell: Callable[[Restart], None] = lambda restart: None,
) -> Learned:
    """Learn a token from pictures (textual inversion, Gal et al. 2022): the embedding that lets the model denoise them.

    Only the embedding is learned, through the text encoder, from several words and seeds. With masks two are: of what
    stays, on a loss that what is hidden has no part in, and of the whole picture, near that one. Ctrl-C ends it with
    what was learned so far.

    Args:
        model: as `open_model` takes it; its text encoders must be CLIP's.
        pictures: a folder of them, or the pictures.
        word: what they show, one token; with masks, what these hide.
        out: file to write, or None.
        options: how to learn; default: `InvertOptions()`.
        masks: a folder of masks, each named as its picture, or the masks; white is what stays.
        kept: with masks, a word of one token for what stays; default: `word`.
        style: the pictures show a style and not a thing; default: what the model's profile says of the word.
        device: `cpu`, `cuda`, ...; default: a GPU if there is one.
        profile: what the model brings along, or a file that says it.
        force: replace an inversion that is at `out`.
        tell: called after every restart.

    Raises:
        EditkitError: another kind of model, pictures or masks that do not fit, a word of several tokens, or `out` is
            there already.

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
        check_free_for_learned(out, force)
    shown = _shown(pictures, masks)
    for each in filter(None, (word, kept)):
        one_token(opened.encoder.reader.tokenizer, each)
    style = opened.profile.is_style(word) if style is None else style
    starts = _starts(opened, kept or word, options.restarts, style)
    denoiser = open_denoiser(opened.source, device or Shard.from_environment().device())
    denoiser.network.requires_grad_(False)
    tokens = SoftTokens.of(denoiser, options.vectors)
    for encoder in tokens.encoders:
        encoder.requires_grad_(False)
    search = Search.of(tokens, neutral_templates(opened.profile, style), shown, options)
    found = _all(search, starts, tell)
    learned = Learned(
        f"<{file_stem([word])}>",
        word,
        tuple(each.whole for each in found),
        tuple(each.kept for each in found if each.kept is not None),
        {
            "model": opened.source.name, "family": opened.source.family.name,
            "text_encoder_sha256": opened.text_encoder_sha256, "pictures": len(shown.pictures), "style": style,
            "options": options.record, "starts": [each.word for each in found], "losses": [each.loss for each in found],
            "versions": versions(),
        },
    )  # fmt: skip
    if out is not None:
        save_learned(learned, out, force)
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


def _starts(model: EditableModel, word: str, count: int, style: bool) -> list[str]:
    """The word, and the words of one token that are nearest to it."""
    if count == 1:
        return [word]
    reader = model.encoder.reader
    words = model.profile.styles if style and model.profile.styles else model.own_words()
    single = [each for each in words if each != word and len(reader.part(each)) == 1]
    some = single[:: max(1, len(single) // NEAR)]
    near = closeness(model.encoder, [*some, word], [word], model.gram)[:-1, 0]
    ordered = [some[n] for n in near.argsort(descending=True).tolist()]
    return [word, *ordered, *[word] * count][:count]


def _all(search: Search, starts: Sequence[str], tell: Callable[[Restart], None]) -> list[Found]:
    """Every restart, the best first; those that Ctrl-C left, of which there is at least a first."""
    found: list[Found] = []
    for number, word in enumerate(starts):
        each = search.run(number, word)
        found.append(each)
        tell(Restart(number + 1, word, each.steps, each.start, each.loss))
        if each.stopped:
            break
    return sorted(found, key=lambda each: each.loss)
