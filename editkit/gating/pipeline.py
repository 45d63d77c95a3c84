"""`editkit.gate`: a gated edit in a pipeline of diffusers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from editkit.concepts.profile import DEFAULT, Profile
from editkit.concepts.templates import fill
from editkit.drawing.pipelines import denoiser_of
from editkit.edits.edit import Edit
from editkit.edits.gate import moved
from editkit.embeddings.reader import Reader
from editkit.errors import EditkitError
from editkit.gating.calibrate import calibrate
from editkit.gating.gated import check_gateable, check_one_map
from editkit.model.apply import family_of_pipeline
from editkit.model.quiet import errors_only
from editkit.variants.edit_file import load_edit

STREAMS = {"text": 0, "pooled": 2}
"""Where `encode_prompt` returns what an edit can move; the unconditional rows stand behind each and stay."""


def gate(
    pipe: Any,
    edit: Edit | os.PathLike[str] | str,
    captions: Sequence[str] | None = None,
    eps: float = 0.01,
    seed: int = 0,
    profile: Profile = DEFAULT,
) -> GatedPipeline:
    """Put an edit behind a gate into a loaded pipeline: from now on prompts that open the gate are drawn with the edit,
    all others with the very bits of the unedited model.

    `with editkit.gate(pipe, ...): ...` takes it out at the end, `remove()` at any time. `editkit.gated` does the same
    apart from a pipeline, and `editkit gate` writes it to a file.

    Args:
        pipe: a pipeline of diffusers of a family that editkit draws.
        edit: what `gated` made, or its file: it is put in as it is. Or an edit or its file: the threshold is made here,
            from `captions`.
        captions: neutral ones, such as your users type.
        eps: the share of neutral prompts that may be edited.
        seed: of the order of the captions.
        profile: what the model brings along.

    Raises:
        EditkitError: the pipeline is of another family than the edit or has a gate, the edit has several maps, or the
            captions are missing or too few.

    >>> import editkit, warnings
    >>> warnings.simplefilter("ignore")
    >>> words = editkit.models()[0]["concepts"]
    >>> known = [f"{word} on a {colour} background" for word in words for colour in ("red", "blue")]
    >>> pipe, edit = editkit.load("emoji"), editkit.erase("emoji", ["church"])
    >>> with editkit.gate(pipe, edit, known, eps=0.05) as gated:
    ...     pictures = [pipe(prompt, num_inference_steps=1).images for prompt in ("a church", "a dog")]
    >>> gated.prompts, gated.opened
    (2, 1)
    """
    check_gateable(family_of_pipeline(pipe), type(pipe).__name__)
    family = family_of_pipeline(pipe).name
    read = edit if isinstance(edit, Edit) else load_edit(os.fspath(edit))
    if not isinstance(read, Edit):
        raise EditkitError("a gate needs an edit, this was refined by gradient steps and is no linear map")
    if read.record.get("family") != family:
        raise EditkitError(
            f"the edit was made for the family {read.record.get('family')}, {type(pipe).__name__} is {family}; "
            "make it again for this model"
        )
    streams = dict(denoiser_of(pipe).streams)
    check_one_map(read, streams)
    if "encode_prompt" in vars(pipe):
        raise EditkitError(f"{type(pipe).__name__}: has a gate already; call its remove() first")
    if read.gate is None:
        if captions is None:
            raise EditkitError(
                "captions: a gate's threshold needs neutral captions, such as your users type; give 3,000"
            )
        read = calibrate(read, _PipelineRows(pipe), captions, eps, profile, seed)
    return GatedPipeline(pipe, read)


class GatedPipeline:
    """A pipeline with a gate in it.

    Attributes:
        pipe: the pipeline.
        gated: the edit with its gate.
        prompts: how many prompts came by so far.
        opened: how many of them opened the gate.
    """

    def __init__(self, pipe: Any, gated: Edit) -> None:
        self.pipe, self.gated, self.prompts, self.opened = pipe, gated, 0, 0
        maps = gated.stream_maps(denoiser_of(pipe).streams) or {}
        self._maps = {stream: edit_map.to(pipe.device) for stream, edit_map in maps.items()}
        assert gated.gate is not None
        self._gate, self._encode = gated.gate.to(pipe.device), pipe.encode_prompt
        pipe.encode_prompt = self._encode_prompt

    def remove(self) -> None:
        """Take the gate out: the pipeline is what it was."""
        vars(self.pipe).pop("encode_prompt", None)

    def __enter__(self) -> GatedPipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    @torch.no_grad()
    def _encode_prompt(self, *given: Any, **more: Any) -> tuple[Any, ...]:
        encoded = list(self._encode(*given, **more))
        rows = {stream: encoded[n] for stream, n in STREAMS.items() if n < len(encoded)}
        opened = self._gate.opens(rows["text"])
        self.prompts, self.opened = self.prompts + len(opened), self.opened + int(opened.sum())
        for stream, changed in moved(rows, self._maps, self._gate).items():
            encoded[STREAMS[stream]] = changed
        return tuple(encoded)


class _PipelineRows:
    """The rows of a pipeline's own encoders."""

    def __init__(self, pipe: Any) -> None:
        self.pipe, self.reader = pipe, Reader(pipe.tokenizer)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> list[Tensor]:
        with errors_only():
            encoded = self.pipe.encode_prompt(
                prompt=list(prompts),
                device=self.pipe.device,
                num_images_per_prompt=1,
                do_classifier_free_guidance=False,
            )
        return [rows.double() for rows in encoded[0].cpu()]

    def reads(self, prompt: str) -> bool:
        return self.reader.size(prompt) < self.pipe.tokenizer.model_max_length

    def subject_at(self, template: str, words: str) -> int:
        return self.reader.subject_at(fill(template, words), template.split("{}", 1)[1])
