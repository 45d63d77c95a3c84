"""Search thoroughly enough: rounds that erase concepts, and learn tokens that bring them back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from editkit.concepts.templates import fill
from editkit.drawing.files import Shard
from editkit.drawing.pipelines import open_denoiser
from editkit.drawing.sampler import Job, draw
from editkit.drawing.sampling import Sampling
from editkit.edits.tuned import Tuned
from editkit.edits.variant import Variant
from editkit.embeddings.learned import Learned, teach
from editkit.erasure.pictured import Pictured
from editkit.files.atomic import write_atomic
from editkit.files.names import file_stem
from editkit.inverting.invert import invert, neutral_templates
from editkit.inverting.options import InvertOptions
from editkit.inverting.round_options import RoundOptions
from editkit.inverting.unfinished import has_begun
from editkit.model.editable import EditableModel
from editkit.tuning import checkpoint
from editkit.tuning.options import RefineOptions
from editkit.tuning.refine import refined
from editkit.tuning.request import StageRequest
from editkit.variants.folder import TUNED_NAME
from editkit.variants.learned_file import load_learned
from editkit.variants.tuned_file import load_tuned


@dataclass(frozen=True)
class Found:
    """What a round came to, to tell.

    Attributes:
        number: which, from 1.
        concept, near: what the token that was learned brings back, and the words nearest to it.
        loss: on held-out noise of pictures of the concept, with which the erased model denoises them.
    """

    number: int
    concept: str
    near: tuple[str, ...]
    loss: float

    def __str__(self) -> str:
        return f"round {self.number}: a token for {self.concept!r}, loss {self.loss:.4f}, near {', '.join(self.near)}"


@dataclass
class Rounds:
    """The rounds of one run, each in a folder of its own, in which it goes on where it was stopped.

    Attributes:
        request: what is erased in the end; its concepts, start and device hold for the rounds, too.
        named: the concepts whose words are erased.
        known: tokens of each concept.
    """

    request: StageRequest
    options: RoundOptions
    folder: Path
    named: Sequence[str]
    known: dict[str, Learned]
    tell: Callable[[Found], None]

    @property
    def learned(self) -> list[Learned]:
        """What is known so far, in the order of the concepts."""
        return [self.known[concept] for concept in self.request.concepts if concept in self.known]

    def run(self) -> list[dict[str, Any]]:
        """All of them.

        Returns:
            Of each the figures of its erasing, and of what it found.

        Raises:
            KeyboardInterrupt: Ctrl-C; what was done is kept.
        """
        start, done = self.request.start, []
        pictures = {concept: self._pictures(concept) for concept in self.request.concepts}
        for number in range(1, self.options.rounds + 1):
            folder = self.folder / f"{number}"
            start = self._erased(number, start, folder)
            found = {concept: self._found(number, concept, pictures[concept], start, folder) for concept in pictures}
            for concept, each in found.items():
                self.known[concept] = joined(concept, self.known.get(concept), each)
            told = {concept: Pictured.of(self._model, [each]).told(each) for concept, each in found.items()}
            for concept, each in found.items():
                self.tell(Found(number, concept, tuple(told[concept]["near"]), each.record["losses"][0]))
            done.append({"erased": start.record["figures"], "found": told})
        return done

    @property
    def _model(self) -> EditableModel:
        return self.request.model

    def _erased(self, number: int, start: Variant | None, folder: Path) -> Tuned:
        """The model after `esd` on all that is known, from where the round before came to."""
        if not (folder / TUNED_NAME).is_file():
            folder.mkdir(parents=True, exist_ok=True)
            seed = self.request.options.seed + number
            options: RefineOptions = replace(
                self.request.options, objective="esd", steps=self.options.erase_steps, seed=seed, preview_every=0
            )
            request = StageRequest(
                self._model, self.named, start, (), options, self.request.vocabulary, self.request.device,
                learned=self.learned,
            )  # fmt: skip
            refined(request, folder, (folder / checkpoint.NAME).is_file())
        return load_tuned(folder / TUNED_NAME)

    def _found(self, number: int, concept: str, pictures: Sequence[Image.Image], tuned: Tuned, folder: Path) -> Learned:
        """A token with which the erased model denoises pictures of the concept."""
        file = folder / f"{self._name(concept)}.ti.safetensors"
        if file.is_file() and not has_begun(file):
            return load_learned(file)
        options = InvertOptions(steps=self.options.learn_steps, restarts=1, seed=self.request.options.seed + number)
        learned = invert(
            self._model, pictures, self._word(concept), file, options, style=self._model.profile.is_style(concept),
            device=self.request.device, resume=has_begun(file), tuned=tuned,
        )  # fmt: skip
        if "stopped" in learned.record:
            raise KeyboardInterrupt
        return learned

    def _name(self, concept: str) -> str:
        """Of its files; two concepts may have names that differ in signs alone."""
        return f"{file_stem([concept])}-{self.request.concepts.index(concept) + 1}"

    def _word(self, concept: str) -> str | None:
        """The concept's last word, where it is one token; else the words that denoise best are looked for."""
        last = concept.split()[-1]
        return last if len(self._model.encoder.reader.part(last)) == 1 else None

    def _pictures(self, concept: str) -> list[Image.Image]:
        """What the original model draws of it: files, so that a run that goes on learns from the same."""
        folder = self.folder / "pictures"
        files = [folder / f"{self._name(concept)}-{seed:02d}.png" for seed in range(self.options.learn_pictures)]
        missing = [seed for seed, file in enumerate(files) if not file.is_file()]
        if missing:
            folder.mkdir(parents=True, exist_ok=True)
            for job, picture in self._drawn(concept, missing):
                write_atomic(files[job.seed], picture.save)
        return [Image.open(file).convert("RGB") for file in files]

    def _drawn(self, concept: str, seeds: Sequence[int]) -> Any:
        source, shown = self._model.source, self.request.shown
        said = concept if concept in self.named else shown.asked(concept, "")[0][0]
        templates = neutral_templates(self._model.profile, self._model.profile.is_style(concept))
        wanted = [Job(fill(templates[seed % len(templates)], said), seed) for seed in seeds]
        sampling = Sampling.for_model(source)
        where = self.request.device or Shard.from_environment().device()
        denoiser = open_denoiser(source, where, sampling.placement)
        teach(denoiser.pipe, shown.tokens)
        return draw(denoiser, wanted, sampling=sampling)


def joined(concept: str, known: Learned | None, found: Learned) -> Learned:
    """All tokens of a concept as one, the known ones first."""
    if known is None:
        return Learned(f"<{file_stem([concept])}>", concept, found.restarts, (), {"found": 1})
    record: Mapping[str, Any] = {**known.record, "found": known.record.get("found", 0) + 1}
    return replace(known, restarts=(*known.restarts, *found.restarts), record=record)
