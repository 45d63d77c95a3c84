"""Training of text encoders: their first layers, by the states that the denoiser reads of prompts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from editkit.concepts.templates import fill
from editkit.drawing.files import Shard
from editkit.drawing.pipelines import open_reader
from editkit.drawing.pipelines.denoiser import Condition
from editkit.edits.tuned import Tuned
from editkit.errors import EditkitError
from editkit.model.checkpoints.projections import fingerprint, read_named
from editkit.model.checkpoints.source import Source
from editkit.model.encoder_weights import PREFIX, encoder_weight
from editkit.seeds import seeded
from editkit.tuning.options import RefineOptions
from editkit.tuning.request import StageRequest
from editkit.tuning.trainer import Step, check_finite

AT_ONCE = 16
"""Prompts of a pass: the encoders keep their activations."""
FIRST = re.compile(r"encoder\.(?:layers|block)\.0\.")
"""The first layer of CLIP's encoder, or of T5's."""
USED = ("objective", "steps", "rate", "seed", "random_norm", "save_every")
"""Options that such a run reads."""


@dataclass(frozen=True)
class EncoderTrainer:
    """The first layers, and where they are to lead.

    Attributes:
        denoiser: a pipeline's, without its network: it encodes.
        prompts: of the concepts, one in every template.
        targets: the states that each is led to, as long as its own.
        weights: name as of `encoder_weight` → what is trained.
    """

    options: RefineOptions
    denoiser: Any
    prompts: Sequence[str]
    targets: Sequence[Condition]
    weights: Mapping[str, Tensor]
    optimizer: torch.optim.Optimizer
    done: list[int] = field(default_factory=lambda: [0])

    @classmethod
    def of(cls, request: StageRequest, device: torch.device) -> EncoderTrainer:
        """Loads the encoders alone.

        Raises:
            EditkitError: they have no such layer.
        """
        options, templates = request.options, request.model.profile.refine.templates
        denoiser = open_reader(request.model.source)
        denoiser.pipe.to(device)
        weights = first_layers(denoiser.pipe)
        said = [(fill(form, concept), guide and fill(form, guide)) for concept, guide in request.asked
                for form in templates]  # fmt: skip
        states = denoiser.encode([prompt for prompt, _ in said])[0]
        targets = [
            denoiser.encode([guide])[0][0] if guide.strip() else random_states(each, options, n)
            for n, (each, (_, guide)) in enumerate(zip(states, said, strict=True))
        ]
        optimizer = torch.optim.Adam(list(weights.values()), lr=options.rate)
        return cls(options, denoiser, [prompt for prompt, _ in said], targets, weights, optimizer)

    @property
    def rows(self) -> int:
        """Prompts that were read."""
        return self.done[0]

    def step(self, i: int, /) -> Step:
        """All prompts once.

        Raises:
            EditkitError: the loss is not finite; nothing is updated then.
        """
        total = 0.0
        self.optimizer.zero_grad()
        for start in range(0, len(self.prompts), AT_ONCE):
            some = slice(start, start + AT_ONCE)
            read = self.denoiser.encode_with_gradients(self.prompts[some])
            loss = torch.stack([self._loss(*pair) for pair in zip(read, self.targets[some], strict=True)]).sum()
            loss = loss / len(self.prompts)
            check_finite(loss, i)
            loss.backward()
            total += float(loss.detach())
        self.optimizer.step()
        self.done[0] += len(self.prompts)
        return Step(total, total, 0.0, (), len(self.prompts))

    def _loss(self, read: Condition, target: Condition) -> Tensor:
        """Over every stream that the denoiser reads: rows of tokens, and one of the whole prompt."""
        shared = min(read.text.shape[1], target.text.shape[1])
        pairs = [(read.text[:, :shared], target.text[:, :shared])]
        if read.pooled is not None and target.pooled is not None:
            pairs.append((read.pooled[:, None], target.pooled[:, None]))
        terms = [self.options.loss.loss({"e": mine}, {"n": theirs}, 0.0).erase for mine, theirs in pairs]
        return torch.cat(terms).sum()

    def any(self, stops: bool, /) -> bool:
        return stops

    def state_dict(self) -> dict[str, Any]:
        return {
            "trained": {name: weight.detach().cpu().clone() for name, weight in self.weights.items()},
            "optimizer": self.optimizer.state_dict(),
            "rows": self.rows,
        }

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        for name, weight in self.weights.items():
            weight.copy_(state["trained"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.done[0] = state["rows"]

    def tuned(self, source: Source, record: Mapping[str, Any]) -> Tuned:
        """What was trained, as an edit."""
        tensors = {name: weight.detach().cpu().clone() for name, weight in self.weights.items()}
        base = {name: fingerprint({name: W}) for name, W in read_named(source, list(tensors)).items()}
        return Tuned(tensors, {}, base, record)


def first_layers(pipe: Any) -> dict[str, Tensor]:
    """The first layer of every text encoder of a pipeline, and nothing else, to be trained.

    Raises:
        EditkitError: there is none.
    """
    chosen: dict[str, Tensor] = {}
    for component, part in pipe.components.items():
        if isinstance(part, nn.Module):
            part.requires_grad_(False)
            for name, weight in part.named_parameters() if component.startswith("text_encoder") else ():
                if FIRST.match(name.removeprefix(PREFIX)):
                    chosen[encoder_weight(component, name)] = weight.requires_grad_()
    if not chosen:
        raise EditkitError(
            f"--objective hirm: {type(pipe).__name__} has no first layer of CLIP or T5; use another objective"
        )
    return chosen


def random_states(like: Condition, options: RefineOptions, number: int) -> Condition:
    """Directions of `--random-norm`, one for every token of the `number`-th prompt."""
    drawn = seeded(options.seed, number)

    def led(rows: Tensor | None) -> Tensor | None:
        if rows is None:
            return None
        made = torch.randn(rows.shape, generator=drawn)
        return (options.random_norm * made / made.norm(dim=-1, keepdim=True)).to(rows)

    text = led(like.text)
    assert text is not None
    return Condition(text, led(like.pooled))


def check_encoder_run(request: StageRequest) -> None:
    """Refuse what has no meaning where no denoiser is trained.

    Raises:
        EditkitError: a single file, an edit to start from, pictures, a tracker, several processes, or an option that is
            not read.
    """
    source, options, name = request.model.source, request.options, f"--objective {request.options.objective}"
    if source.is_single_file:
        raise EditkitError(f"model {source.name}: is a single file, {name} trains the text encoders of a folder")
    if request.start is not None:
        raise EditkitError(f"{name}: begins with the model's own text encoders; leave out the edit to start from")
    if request.learned:
        raise EditkitError(f"--picture: {name} misreads words, not learned tokens; leave it out")
    if Shard.from_environment().count > 1:
        raise EditkitError(f"{name}: trains in one process, in seconds; start it without torchrun")
    if request.tracker is not None:
        raise EditkitError(f"--tracker {request.tracker}: {name} keeps its own log alone; leave it out")
    usual = RefineOptions.of(options.objective, request.model.profile).record
    unread = {each: value for each, value in options.record.items() if each not in USED}
    other = next((each for each, value in unread.items() if value != usual.get(each)), None)
    if other is not None:
        raise EditkitError(f"--{other.replace('_', '-')}: {name} trains no denoiser and does not read it; leave it out")
