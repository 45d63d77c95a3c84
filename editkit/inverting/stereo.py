"""`refine --objective stereo`: search thoroughly enough for what brings concepts back, then erase all of it once."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from editkit.concepts.attributes import Attribute
from editkit.drawing.files import Shard
from editkit.drawing.pipelines import check_drawable
from editkit.edits.tuned import Tuned
from editkit.edits.variant import Variant
from editkit.embeddings.learned import Learned
from editkit.errors import EditkitError
from editkit.inverting.round_options import STEREO, RoundOptions
from editkit.inverting.rounds import Found, Rounds
from editkit.model.editable import ModelLike, check_learnable, open_model
from editkit.tuning import checkpoint
from editkit.tuning.masks import Shown
from editkit.tuning.options import RefineOptions
from editkit.tuning.refine import refine, refined
from editkit.tuning.request import StageRequest
from editkit.tuning.stage import run_folder

FOLDER = "rounds"
"""Of the rounds, in that of the run."""


def stereo(
    model: ModelLike,
    out: Path | str,
    concepts: Sequence[str] = (),
    start: Variant | None = None,
    guides: Sequence[str] = (),
    options: RefineOptions | None = None,
    vocabulary: Sequence[str] | None = None,
    device: str | None = None,
    resume: bool = False,
    force: bool = False,
    tracker: str | None = None,
    attributes: Sequence[str | Attribute] = (),
    ratios: Sequence[float] | None = None,
    pictures: Sequence[Learned] = (),
    shown: Sequence[Shown] = (),
    rounds: RoundOptions | None = None,
    tell: Callable[[Found], None] = lambda found: None,
) -> Tuned:
    """Erase concepts with all that brings them back, after STEREO (Srivatsan et al. 2025), by notes of others.

    Every round erases what is known by `esd`, from where the round before came to, and then learns a token for each
    concept with which that model denoises pictures that the original drew of it. The token joins what is known. In the
    end all is erased at once, from `start`, with the objective `stereo`. `out` also holds the pictures, and of every
    round its model and its tokens, in the folder `rounds`.

    What the rounds are not told by `rounds` they have of `options`: what is trained, rate, η, precision.

    >>> from tempfile import mkdtemp
    >>> few = RefineOptions("stereo", steps=1, sampling_steps=2)
    >>> brief = RoundOptions(rounds=1, erase_steps=1, learn_steps=1, learn_pictures=1)
    >>> tuned = stereo("emoji", mkdtemp(), ["church"], options=few, device="cpu", rounds=brief)
    >>> tuned.record["pictures"]["church"]["restarts"], len(tuned.record["rounds"]["each"])
    (1, 1)

    Args:
        model: as `open_model` takes it, or what it returns.
        out: folder, as of `refine`.
        concepts: what to erase. Default: the concepts of `start`.
        start: an edit, or what an earlier run made, that rounds and the last stage begin at.
        guides: the anchors of the last stage, as of `refine`; rounds have none.
        options: default `RefineOptions.of("stereo", model.profile)`.
        vocabulary: as of `refine`.
        device: such as `cpu` or `cuda`. Default: a GPU if there is one.
        resume: go on where a run in `out` was stopped.
        force: replace an earlier run in `out`.
        tracker: of the last stage, as of `refine`.
        attributes: as of `refine`, which refuses them with this objective.
        ratios: likewise.
        pictures: tokens that are known before, as of `refine`.
        shown: likewise refused.
        rounds: default `RoundOptions()`.
        tell: called for every token that is found.

    Raises:
        EditkitError: as `refine`; a model for which no token can be learned; or several processes.
        KeyboardInterrupt: Ctrl-C; what was done is saved, and `resume` goes on to the same bits.
    """
    model = open_model(model)
    options, rounds = options or RefineOptions.of(STEREO, model.profile), rounds or RoundOptions()
    if options.objective != STEREO:
        raise EditkitError(f"--objective {options.objective}: has no rounds; use --objective {STEREO}")
    if not rounds.rounds:
        return refine(
            model, out, concepts, start, guides, options, vocabulary, device, resume, force, tracker, attributes,
            ratios, pictures, shown,
        )  # fmt: skip

    def asked(concepts: Sequence[str], learned: Sequence[Learned]) -> StageRequest:
        return StageRequest(
            model, concepts, start, guides, options, vocabulary, device, tracker, attributes=attributes, ratios=ratios,
            pictures=shown, learned=learned,
        )  # fmt: skip

    request = asked(concepts, pictures)
    _check(request)
    folder = run_folder(Path(out), resume, force, f"{FOLDER}/{checkpoint.NAME}")
    _begin(request, rounds, folder, resume)
    words = {text for text, _ in request.asked}
    named = [concept for concept in request.concepts if concept in words]
    search = Rounds(request, rounds, folder / FOLDER, named, {each.word: each for each in pictures}, tell)
    done = search.run()
    last = asked(named, search.learned)
    more = {"rounds": {"options": rounds.record, "each": done}}
    return refined(last, folder, (folder / checkpoint.NAME).is_file(), more)


def _check(request: StageRequest) -> None:
    """Refuse what rounds cannot do, before any is begun."""
    if Shard.from_environment().count > 1:
        raise EditkitError(
            "--rounds: tokens are looked for in one process; do that first, and give them to several with --picture "
            "and --rounds 0"
        )
    check_learnable(request.model.source)
    check_drawable(request.model.source)
    masked = next((each.word for each in request.learned if each.kept), None)
    if masked is not None:
        raise EditkitError(
            f"--picture: {masked!r} was learned with masks, and the original model draws no part of a picture to learn "
            "from; give --rounds 0, or learn it without masks"
        )


def _begin(request: StageRequest, rounds: RoundOptions, folder: Path, resume: bool) -> None:
    """Write down what a resumed run must have in common with this one; or hold a resumed one to it."""
    begun = None if request.start is None else request.start.record.get("created")
    run = {
        **request.options.same_run, **rounds.record, "concepts": list(request.concepts), "start": begun,
        "pictures": [each.sha256 for each in request.learned],
    }  # fmt: skip
    if resume:
        checkpoint.load_checkpoint(folder / FOLDER, run)
        return
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
    (folder / checkpoint.NAME).unlink(missing_ok=True)
    (folder / FOLDER).mkdir()
    checkpoint.save_checkpoint(folder / FOLDER, {"run": run})
