"""`editkit sensitivity`: what an edit does to every word, in closed form and on pictures, and whether the two agree."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

from editkit.concepts.profile import ProfileOrFile
from editkit.drawing.files import Shard
from editkit.drawing.pipelines import open_denoiser
from editkit.drawing.prompt_file import parse_seeds
from editkit.drawing.refusals import check_drawing
from editkit.drawing.sampling import Sampling, Settings
from editkit.edits.variant import Variant
from editkit.erasure.words import words_to_protect
from editkit.errors import EditkitError
from editkit.evaluation.scores import score_for
from editkit.evaluation.sensitivity import Damage, Delta, measured_deltas, word_damage
from editkit.evaluation.statistics.rank_correlation import RankCorrelation, spearman
from editkit.files.atomic import write_text_atomic
from editkit.model.editable import EditableModel, ModelLike, open_model
from editkit.report.charts.ranked import Spectrum, ranked_chart
from editkit.report.charts.scale import shown
from editkit.report.charts.scatter import Point, scatter_chart
from editkit.report.charts.svg import Markup
from editkit.report.compare import Path_
from editkit.report.plot_file import check_plot, write_plot
from editkit.variants.edit_file import load_edit
from editkit.variants.fit import check_fit
from editkit.versions import RESULTS, versions

NAMED = 8


@dataclass(frozen=True)
class Sensitivity:
    """What an edit does to words.

    Attributes:
        damage: in closed form, of all words; `erased` is that of the erased concepts themselves.
        deltas: δ measured on pictures, of the words that `score` knows; empty without pictures.
        correlation: of damage and δ over these words.
    """

    name: str
    profile: Mapping[str, str]
    damage: Damage
    erased: Damage
    deltas: tuple[Delta, ...] = ()
    score: str | None = None
    seeds: tuple[int, ...] = ()
    correlation: RankCorrelation | None = None

    def as_dict(self) -> dict[str, Any]:
        """The numbers, for machines."""
        deltas = {delta.word: delta for delta in self.deltas}

        def entry(word: str, value: float) -> dict[str, Any]:
            row: dict[str, Any] = {"word": word, "damage": value}
            if word in deltas:
                estimate = deltas[word].estimate
                row |= {"delta": estimate.value, "low": estimate.low, "high": estimate.high}
            return row

        return {
            "edit": self.name,
            "profile": dict(self.profile),
            "words": [entry(*pair) for pair in self.damage.ranked()],
            "erased": [entry(*pair) for pair in self.erased.ranked()],
            "seconds": self.damage.seconds,
            "seconds_to_encode": self.damage.seconds_to_encode,
            "score": self.score,
            "seeds": list(self.seeds),
            "spearman": None if self.correlation is None else self.correlation.as_dict(),
            "versions": versions(RESULTS),
        }


def sensitivity(
    model: ModelLike,
    edit: Variant | Path_,
    vocabulary: Sequence[str] | None = None,
    pictures: bool = False,
    seeds: Sequence[int] | str = "0-3",
    out: Path_ | None = None,
    device: str | None = None,
    clip: Path | None = None,
    force: bool = False,
    profile: ProfileOrFile | None = None,
    **settings: Unpack[Settings],
) -> Sensitivity:
    """What an edit does to every word: the closed-form damage; with `pictures` also δ(c), and their rank correlation.

    Source: adversarial preservation (Bui et al. 2024), Sec. 3.

    Args:
        model: as `open_model` takes it, or what it returns.
        edit: an edit or its file.
        vocabulary: default: the words of the model's profile. What the edit erases is left out.
        pictures: also measure δ on pictures of every word.
        seeds: of these pictures.
        out: plot to write (.svg or .png); the numbers go beside it (.json).
        device: `cpu`, `cuda`, ...; default: a GPU if there is one.
        clip: folder of a CLIP model, to score the pictures by, in place of the judge of the model's profile.
        force: replace what is at `out`.
        profile: what the model brings along, or a file that says it.
        settings: of `editkit.drawing.sampling.Settings`.

    Raises:
        EditkitError: the edit is not for this model, no word is left, or nothing can score the pictures.

    >>> from editkit.erasure.erase import erase
    >>> told = sensitivity("emoji", erase("emoji", ["church"]), ["mosque", "dog"])
    >>> [word for word, _ in told.damage.ranked()]
    ['mosque', 'dog']
    """
    place = None if out is None else Path(out)
    if place is not None:
        check_plot(place, force)
    opened = open_model(model, profile=profile)
    variant, name = (load_edit(Path(edit)), Path(edit).stem) if isinstance(edit, str | os.PathLike) else (edit, "edit")
    check_fit(variant, opened)
    concepts = list(variant.record.get("concepts", ()))
    words = words_to_protect(opened, concepts, variant.record.get("guides", ()), vocabulary)
    if not words:
        raise EditkitError("no word is left in the vocabulary besides the erased concepts; give a larger --vocabulary")
    (damage,), (erased,) = word_damage(opened, [variant], words), word_damage(opened, [variant], concepts)
    told = Sensitivity(name, opened.profile.record, damage, erased)
    if pictures:
        numbers = parse_seeds(seeds) if isinstance(seeds, str) else seeds
        told = _with_pictures(told, opened, variant, numbers, device, clip, settings)
    if place is not None:
        write_plot(place, plot(told), force)
        text = json.dumps(told.as_dict(), indent=1, ensure_ascii=False) + "\n"
        write_text_atomic(place.with_suffix(".json"), text, force)
    return told


def _with_pictures(
    told: Sensitivity,
    model: EditableModel,
    variant: Variant,
    seeds: Sequence[int],
    device: str | None,
    clip: Path | None,
    settings: Settings,
) -> Sensitivity:
    score = score_for(model.source, clip)
    known = [word for word in told.damage.words if score.knows(word)]
    if not known:
        raise EditkitError(f"{score.name} knows none of the words; give a --vocabulary of what it can tell apart")
    sampling = Sampling.for_model(model.source, **settings)
    check_drawing(model.source, sampling)
    denoiser = open_denoiser(model.source, device or Shard.from_environment().device(), sampling.placement)
    (deltas,) = measured_deltas(denoiser, score, [variant], known, seeds, sampling)
    closed = dict(zip(told.damage.words, told.damage.values, strict=True))
    correlation = spearman([closed[delta.word] for delta in deltas], [delta.estimate.value for delta in deltas])
    return replace(told, deltas=tuple(deltas), score=score.name, seeds=tuple(seeds), correlation=correlation)


def plot(sensitivity: Sensitivity) -> Markup:
    """δ against damage where δ was measured, else the ranked damage."""
    ranked = sensitivity.damage.ranked()
    if not sensitivity.deltas:
        named = dict([*sensitivity.erased.ranked(), *ranked[: NAMED - 2], *ranked[-2:]])
        says = (
            f"Damage of {len(ranked)} words by {sensitivity.name}, ranked; worst: {ranked[0][0]} {shown(ranked[0][1])}"
        )
        return ranked_chart([Spectrum(sensitivity.name, 1, sensitivity.damage.values, named)], says)
    closed = dict(ranked)
    told = {delta.word for delta in sorted(sensitivity.deltas, key=lambda delta: -delta.estimate.value)[:NAMED]}
    told |= set([word for word, _ in ranked if word in {delta.word for delta in sensitivity.deltas}][: NAMED // 2])
    points = [
        Point(delta.word if delta.word in told else "", 1, closed[delta.word], delta.estimate.value, said=delta.word)
        for delta in sensitivity.deltas
    ]
    values = [point.x for point in points]
    log = min(values) > 0 and max(values) / min(values) > 20
    rho = f"Spearman's ρ {sensitivity.correlation}"
    says = f"Measured δ against closed-form damage of {len(points)} words by {sensitivity.name}; {rho}"
    x_name = f"closed-form damage · {rho}"
    return scatter_chart(points, x_name, "δ: lost probability, measured", says, zero=False, log=(log, False))
