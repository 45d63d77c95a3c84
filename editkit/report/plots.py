"""The charts of a comparison."""

from __future__ import annotations

from dataclasses import dataclass

from editkit.evaluation.sensitivity import Damage
from editkit.report.charts.bars import Bars, bar_chart
from editkit.report.charts.intervals import interval_chart, said
from editkit.report.charts.ranked import Spectrum, ranked_chart
from editkit.report.charts.scale import shown
from editkit.report.charts.svg import Markup
from editkit.report.comparison import Comparison
from editkit.report.shares import count_deltas

MOST_BARS, FEWEST_WORDS = 28, 6
MOST_NAMED = 8


@dataclass(frozen=True)
class Figure:
    """A chart with its title, how to read it, the variants in its legend, and its numbers as a table."""

    title: str
    reads: str
    svg: Markup
    legend: tuple[int, ...] = ()
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def damage_figure(comparison: Comparison) -> Figure | None:
    """The words that the edits hurt most, worst first; None where no edit has a closed form."""
    known = [(n, damage) for n, damage in enumerate(comparison.damage) if damage is not None]
    if not known:
        return None
    by_word = {word: [damage.values[j] for _, damage in known] for j, word in enumerate(known[0][1].words)}
    ordered = sorted(by_word, key=lambda word: -max(by_word[word]))
    words = ordered[: max(FEWEST_WORDS, MOST_BARS // len(known))]
    names = [comparison.variants[n].name for n, _ in known]
    series = [
        Bars(names[i], n, [by_word[word][i] for word in words], sum(damage.values) / len(damage.values))
        for i, (n, damage) in enumerate(known)
    ]
    says = "Damage by concept. " + "; ".join(
        f"{name}: worst {_worst(damage)}, mean {shown(bars.mean or 0)}"
        for name, bars, (_, damage) in zip(names, series, known, strict=True)
    )
    return Figure(
        "Damage by concept",
        "Relative squared change of all keys and values that a word produces, exact and without a picture. The worst "
        f"of {len(ordered)} words that were not to be erased; dashed, the mean of all.",
        bar_chart(words, series, says),
        tuple(n for n, _ in known),
        ("word", *names),
        tuple((word, *(shown(value) for value in by_word[word])) for word in ordered),
    )


def spectrum_figure(comparison: Comparison) -> Figure | None:
    """Every word's damage in order, the prompts' subjects named."""
    known = [
        (n, rest, own)
        for n, (rest, own) in enumerate(zip(comparison.damage, comparison.named, strict=True))
        if rest is not None and own is not None
    ]
    if not known:
        return None
    spectra = [
        Spectrum(comparison.variants[n].name, n, rest.values, dict(own.ranked()[:MOST_NAMED])) for n, rest, own in known
    ]
    names = [spectrum.name for spectrum in spectra]
    values = {word: [own.values[j] for _, _, own in known] for j, word in enumerate(known[0][2].words)}
    says = "Sensitivity: damage of every word, ranked. " + "; ".join(
        f"{spectrum.name}: {', '.join(f'{word} {shown(value)}' for word, value in spectrum.named.items())}"
        for spectrum in spectra
    )
    return Figure(
        "Sensitivity",
        "The damage of every word, from the most to the least sensitive, on a logarithmic axis. Named are the erased "
        "concepts, which should stand out above, and what the prompts are about.",
        ranked_chart(spectra, says),
        tuple(n for n, _, _ in known),
        ("word", *names),
        tuple((word, *(shown(value) for value in row)) for word, row in values.items()),
    )


def delta_figure(comparison: Comparison) -> Figure | None:
    """δ of every prompt, where a judge can tell."""
    if not comparison.detections:
        return None
    by_variant = count_deltas(comparison)
    prompts = [delta.word for delta in next(iter(by_variant.values()))]
    if not prompts:
        return None
    first = comparison.variants[0].name
    series = [
        (comparison.variants[n].name, n, [delta.estimate for delta in deltas]) for n, deltas in by_variant.items()
    ]
    listed = (
        (name, ", ".join(f"{prompt} {estimate.value:.2f}" for prompt, estimate in zip(prompts, estimates, strict=True)))
        for name, _, estimates in series
    )
    says = f"Measured sensitivity against {first}. " + "; ".join(f"{name}: {values}" for name, values in listed)
    rows = tuple((prompt, *(said(estimates[j]) for _, _, estimates in series)) for j, prompt in enumerate(prompts))
    return Figure(
        "Measured sensitivity δ",
        f"What the judge's probability of the prompt's concept loses against {first}, mean over the seeds with 95 % "
        "interval. An erased concept should lose everything (1), every other nothing (0).",
        interval_chart(prompts, series, "δ: lost probability", says),
        tuple(by_variant),
        ("prompt", *(name for name, _, _ in series)),
        rows,
    )


def _worst(damage: Damage) -> str:
    word, value = damage.ranked()[0]
    return f"{word} {shown(value)}"
