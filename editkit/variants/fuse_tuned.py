"""`editkit compose --fuse` of what was trained: LoRAs of single concepts, solved for together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from editkit.concepts.templates import fill
from editkit.edits.gram import gram_matrix, square_root
from editkit.edits.low_rank import LowRank
from editkit.edits.protect import ProtectedWords, prior
from editkit.edits.solve import Penalty, down_factor
from editkit.edits.tuned import Tuned
from editkit.erasure.rows import Encoders
from editkit.erasure.styles import protected_rows
from editkit.erasure.words import words_to_protect
from editkit.errors import EditkitError
from editkit.model.editable import EditableModel, ModelLike, Stream, open_model
from editkit.variants.edit_file import check_free_for_edit
from editkit.variants.fit import check_fit
from editkit.variants.tuned_file import load_tuned, save_tuned
from editkit.versions import versions

LAMB, STRENGTH = 1e-4, 0.5
"""Ridge, and weight of the protected words: those of a protected closed-form edit."""


def fuse_tuned(
    parts: Sequence[Tuned | Path | str],
    model: ModelLike = None,
    out: Path | str | None = None,
    vocabulary: Sequence[str] | None = None,
    force: bool = False,
) -> Tuned:
    """One LoRA that does to the concepts of each what that one does, and to other words nothing.

    `ΔW = Σ_i ΔW_i C_iᵀC_i B⁻¹` of every layer, with `B = Σ_i C_iᵀC_i + μ PᵀP + λI`, where sums over rows are means.
    That is the least squares `Σ_i ‖(ΔW − ΔW_i) C_iᵀ‖² + μ ‖ΔW Pᵀ‖² + λ ‖ΔW‖²`: the fusion of MACE (Lu et al. 2024,
    https://arxiv.org/abs/2403.06135, by notes of others). Its ranks add up, as those of the plain sum `Σ_i ΔW_i` do,
    by which LoRAs disturb each other.

    `C_i` are the rows of a concept in the templates of the model's profile, from its first token to the end, `P` those
    of the protected words. The paper holds captions of COCO, which are not bundled. λ is 1e-4 and μ is 0.5, as in a
    protected edit.

    Args:
        parts: what `refine` made with a LoRA of projections that read the prompt, or its files or folders; their order
            does not matter.
        model: the model that they were made from.
        out: file to write, or None.
        vocabulary: words to protect. Default: the words of the model's profile.
        force: replace an edit file that is at `out`.

    Raises:
        EditkitError: fewer than two parts, parts of other models, parts that changed anything else or whole tensors, a
            concept in two of them, or `out` is there already.

    >>> import editkit
    >>> from dataclasses import replace
    >>> from tempfile import mkdtemp
    >>> few = editkit.RefineOptions("esd", "kv+lora:1", steps=1, sampling_steps=2)
    >>> church = editkit.refine("emoji", mkdtemp(), ["church"], options=few, device="cpu")
    >>> boat = replace(church, record={**church.record, "concepts": ["boat"]})  # as if it had been trained on that
    >>> both = editkit.fuse_tuned([church, boat], "emoji", vocabulary=["dog", "house"])
    >>> both.record["concepts"], {len(change.down) for change in both.factors.values()}
    (['boat', 'church'], {2})
    """
    model = open_model(model)
    read = [part if isinstance(part, Tuned) else load_tuned(part) for part in parts]
    read.sort(key=lambda part: list(part.record["concepts"]))
    concepts = [concept for part in read for concept in part.record["concepts"]]
    guides = [guide for part in read for guide in part.record["guides"]]
    _check(read, concepts, model)
    if out is not None:
        check_free_for_edit(Path(out), force)
    words = words_to_protect(model, concepts, guides, vocabulary)
    factors: dict[str, LowRank] = {}
    figures: dict[str, dict[str, Any]] = {}
    for stream in model.streams:
        names = [name for name in stream.inputs if any(name in part.factors for part in read)]
        if not names:
            continue
        held = protected_rows(model.profile, stream.encoders, words, concepts)
        rows = [_rows(stream.encoders, part.record["concepts"], model) for part in read]
        made = fused(read, names, rows, held)
        factors |= {name: change.float() for name, change in made.items()}
        figures[stream.rule.stream] = _figures(read, made, rows, held, stream)
    base = {name: mark for part in read for name, mark in part.base.items()}
    both = Tuned({}, factors, base, _record(model, read, concepts, guides, figures))
    if out is not None:
        save_tuned(both, Path(out), force)
    return both


def fused(
    parts: Sequence[Tuned], names: Sequence[str], rows: Sequence[Tensor], held: ProtectedWords
) -> dict[str, LowRank]:
    """The equation of `fuse_tuned` for the projections `names` of one stream: float64 factors by name.

    Args:
        rows: of the concepts of each part, `(n_i, d)`.
        held: the protected words.
    """
    C = torch.cat([own.double() for own in rows])
    penalty = Penalty.of(LAMB, None, C.shape[1])
    if held.words:
        penalty = prior(held, penalty, STRENGTH)
    inverse = down_factor(C, penalty, 1 / len(C)).split([len(own) for own in rows])
    made: dict[str, LowRank] = {}
    for name in names:
        pairs = [
            (part.factors[name].up.double(), part.factors[name].down.double() @ own.double().T @ V / len(C))
            for part, own, V in zip(parts, rows, inverse, strict=True)
            if name in part.factors
        ]
        if pairs:
            ups, downs = zip(*pairs, strict=True)
            made[name] = LowRank(torch.cat(ups, 1), torch.cat(downs))
    return made


def _rows(encoders: Encoders, concepts: Sequence[str], model: EditableModel) -> Tensor:
    """Rows of concepts in their templates, from the first token to the end, `(n, d)`."""
    found = []
    for encoder in encoders:
        for concept in concepts:
            templates = model.profile.templates_for(concept)
            embedded = encoder.encode([fill(template, concept) for template in templates])
            found += [
                rows[encoder.place(template, concept).first :]
                for template, rows in zip(templates, embedded, strict=True)
            ]
    return torch.cat(found)


def _check(parts: Sequence[Tuned], concepts: Sequence[str], model: EditableModel) -> None:
    if len(parts) < 2:
        raise EditkitError(f"compose --fuse: expected two results of refine or more, got {len(parts)}")
    twice = next((concept for concept in concepts if concepts.count(concept) > 1), None)
    if twice is not None:
        raise EditkitError(f"compose --fuse: concept {twice!r} is in two of them; leave one out")
    reads = {name for stream in model.streams if stream.reads == stream.width for name in stream.inputs}
    for part in parts:
        check_fit(part, model)
        told = ", ".join(part.record["concepts"])
        if not part.is_low_rank:
            raise EditkitError(
                f"compose --fuse: whole tensors were trained for {told}; give LoRAs, such as --param kv+lora:1 makes"
            )
        if "pictures" in part.record:
            raise EditkitError(
                f"compose --fuse: {next(iter(part.record['pictures']))!r} was trained by pictures, so its rows are not "
                "known; train what has a word"
            )
        other = next((name for name in part.names if name not in reads), None)
        if other is not None:
            raise EditkitError(
                f"compose --fuse: {other} was trained for {told} and does not read the prompt alone; "
                "give LoRAs of --param text+lora:RANK, or of a UNet's kv+lora:RANK"
            )


def _figures(
    parts: Sequence[Tuned], made: Mapping[str, LowRank], rows: Sequence[Tensor], held: ProtectedWords, stream: Stream
) -> dict[str, Any]:
    """What was asked for and did not come, of the part with the most; and how far protected words move."""
    whole = {name: change.up @ change.down for name, change in made.items()}
    residual = max(_residual(part, whole, own.double()) for part, own in zip(parts, rows, strict=True))
    figures: dict[str, Any] = {"fusion_residual": residual, "damage_words": len(held.words)}
    if held.words:
        _, sizes = held.under(stream.gram)
        damage = held.sizes(square_root(gram_matrix(list(whole.values()), rows[0].shape[1]))) / sizes
        figures |= {"damage_mean": float(damage.mean()), "damage_worst": float(damage.max())}
    return figures


def _residual(part: Tuned, whole: Mapping[str, Tensor], C: Tensor) -> float:
    """`‖(ΔW − ΔW_i) C_iᵀ‖ / ‖ΔW_i C_iᵀ‖` over all layers."""

    def sizes() -> Iterator[Tensor]:
        for name, change in whole.items():
            own = torch.zeros_like(change)
            if name in part.factors:
                own = part.factors[name].up.double() @ part.factors[name].down.double()
            yield torch.stack([((change - own) @ C.T).square().sum(), (own @ C.T).square().sum()])

    missed, asked = torch.stack(list(sizes())).sum(0).tolist()
    return (missed / asked) ** 0.5 if asked else 0.0


def _record(
    model: EditableModel,
    parts: Sequence[Tuned],
    concepts: Sequence[str],
    guides: Sequence[str],
    figures: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    first, *others = figures
    return {
        "method": "fuse",
        "concepts": list(concepts),
        "guides": list(guides),
        "preserve": [],
        "options": {"lamb": LAMB, "strength": STRENGTH},
        "model": model.source.name,
        "family": model.source.family.name,
        "profile": model.profile.record,
        "text_encoder_sha256": model.text_encoder_sha256,
        "projections_sha256": model.projections_sha256,
        "figures": {**figures[first], **{name: figures[name] for name in others}},
        "versions": versions(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "parts": [dict(part.record) for part in parts],
    }
