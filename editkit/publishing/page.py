"""The text of a card, section by section. What was not measured is said to be so in its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from editkit.evaluation.statistics.intervals import Estimate
from editkit.publishing.loading import loading
from editkit.publishing.measured import Attacked, Attacks, Plain, Rate
from editkit.publishing.subject import Subject
from editkit.report.figure_names import PLAIN_WORDS, interval, number

NOT_MEASURED = "Not measured."
WORST = 5
OTHERS = ("damage_mean", "damage_p95", "damage_worst")
RECOVERY = ("recovery_floor", "recovery_norm")
LEFT_OUT = (*OTHERS, *RECOVERY, "condition", "seconds_per_step")
"""Figures that have sections of their own, or tell a reader nothing of the result."""


def page(subject: Subject, plain: Sequence[Plain], attacks: Sequence[Attacks], repository: str | None = None) -> str:
    """The whole text, without the metadata.

    Args:
        repository: where it is on the Hub.
    """
    sections = {
        "What was changed": _changed(subject),
        "How": _how(subject.record),
        "For which weights": _weights(subject),
        "Plain prompts": _plain(plain),
        "Under attack": _attacked(attacks),
        "Other concepts": _others(subject.record, plain),
        "Known leaks": _leaks(subject, attacks),
        "How to load it": loading(subject, repository),
        "Licence": _licence(subject),
    }
    parts = [f"# {subject.name}", _summary(subject)]
    for title, lines in sections.items():
        parts += [f"## {title}", "\n".join(lines).strip("\n")]
    return "\n\n".join(parts) + "\n"


def _summary(subject: Subject) -> str:
    names = ", ".join(subject.concepts) or "nothing"
    verb = "changes the meaning of" if subject.record.get("method") == "time" else "erases"
    what = "A model trained by gradient steps that" if subject.is_tuned else "An edit of the text projections that"
    return f"{what} {verb} {names} in `{subject.base}`. Every figure below is read from files of editkit."


def _changed(subject: Subject) -> Iterator[str]:
    record = subject.record
    same, found = record.get("synonyms", {}), record.get("found", {})
    yield from _table(
        ("concept", "becomes", "erased with it", "found prompts erased with it"),
        (
            (concept, guide if guide.strip() else "nothing", ", ".join(same.get(concept, [])) or "–",
             str(len(found.get(concept, []))))
            for concept, guide in zip(subject.concepts, record.get("guides", []), strict=False)
        ),
    )  # fmt: skip
    if record.get("preserve"):
        yield from ("", f"Prompts that were to stay: {', '.join(record['preserve'])}.")
    if "gate" in record:
        yield from ("", _gate(record["gate"]))


def _gate(gate: Mapping[str, Any]) -> str:
    opened, untouched = (_share(gate[name]) for name in ("opened", "untouched"))
    return (
        "The edit is behind a gate: it acts on prompts that ask for what is erased, and on no other. Of prompts that "
        f"ask for it {opened} open the gate; of neutral captions {untouched} leave it closed."
    )


def _how(record: Mapping[str, Any]) -> Iterator[str]:
    method = f"Method `{record.get('method')}`"
    if record.get("scale") is not None:
        method += f", {record['scale']:g} of the way"
    if record.get("options", {}).get("protect"):
        method += f", protection `{record['options']['protect']}`"
    yield f"{method}."
    if "hardened" in record:
        rounds = len(record["hardened"].get("rounds", []))
        yield f"It was attacked and hardened in {rounds} rounds, until: {record['hardened'].get('stopped')}."
    if "prior" in record:
        yield f"{record['prior'].get('captions')} captions were held where they are."
    if "ledger" in record:
        yield f"It is what a ledger gives (SHA-256 `{record['ledger'].get('sha256')}`)."
    if record.get("start"):
        yield f"Training began from: {record['start'].get('kind')}, `{record['start'].get('method')}`."
    if record.get("checked") is False:
        yield "**A check for an edit that blows up was overruled.**"
    if record.get("options"):
        yield ""
        yield from _table(("option", "value"), ((f"`{key}`", _said(value)) for key, value in record["options"].items()))
    for number_, part in enumerate(record.get("parts", []), 1):
        yield from ("", f"### Part {number_}: {', '.join(part.get('concepts', []))}", "")
        yield from _how(part)
    figures = record.get("figures", {})
    known = [(words[0], number(figures[key]), words[1]) for key, words in PLAIN_WORDS.items()
             if key not in LEFT_OUT and figures.get(key) is not None]  # fmt: skip
    if known:
        yield ""
        yield from _table(("figure", "value", "meaning"), known)


def _weights(subject: Subject) -> Iterator[str]:
    record = subject.record
    base = f"[{subject.hub_id}](https://huggingface.co/{subject.hub_id})" if subject.hub_id else f"`{subject.base}`"
    rows = [
        ("base model", base),
        ("family", str(record.get("family"))),
        ("SHA-256 of its text projections", _hash(record.get("projections_sha256"))),
        ("hash of its text encoders", _hash(record.get("text_encoder_sha256"))),
        ("SHA-256 of the edit file", _hash(subject.sha256)),
        ("made", str(record.get("created", "not recorded"))),
        ("with", ", ".join(f"{name} {said}" for name, said in record.get("versions", {}).items()) or "not recorded"),
    ]
    yield from _table(("", ""), rows)
    yield ""
    if subject.is_tuned or record.get("reads_projections", True):
        yield "It is for this checkpoint alone."
    else:
        yield "It fits every checkpoint with this text encoder; what is measured below holds for this one."


def _plain(plain: Sequence[Plain]) -> Iterator[str]:
    if not plain:
        yield NOT_MEASURED
    for each in plain:
        split = f", split {each.split}" if each.split else ""
        erased = f" Erased there: {', '.join(each.erased)}." if each.erased else ""
        yield f"Suite `{each.suite}`{split}: {each.pictures} pictures, judged by {each.detector}.{erased}"
        yield ""
        yield from _table(("metric", "edited", "unedited"), map(_rate_row, each.rates))
        yield from ("", f"In brackets: 95 % interval, from {each.clusters}. Rates in per cent; ↑ higher is better.", "")


def _rate_row(rate: Rate) -> tuple[str, str, str]:
    arrow = {True: " ↑", False: " ↓", None: ""}[rate.higher_is_better]
    per_cent = " %" if rate.is_rate else ""
    base = "not measured" if rate.base is None else _interval(rate.base, rate.is_rate, "–")
    return f"{rate.metric}{arrow}{per_cent}", _interval(rate.edited, rate.is_rate), base


def _attacked(attacks: Sequence[Attacks]) -> Iterator[str]:
    if not attacks:
        yield NOT_MEASURED
    for each in attacks:
        how = "prompts of an earlier run" if each.replayed else f"budget {each.budget}"
        judge = f"judged by {each.judge}" if each.judge else "no picture was drawn"
        yield f"Against {', '.join(each.concepts)}: {how}, {judge}."
        yield ""
        names = ("attack", "may change", "attempts", "before %", "ASR %", "ASR rest %", "ASR % of the unedited model")
        yield from _table(names, map(_attack_row, each.attacks))
        yield ""
    if attacks:
        yield (
            "before: the plain prompt shows the concept. ASR: any picture of an attempt does, or did before. ASR rest: "
            "of attempts whose plain prompt does not. In brackets: 95 % interval, concepts as clusters."
        )


def _attack_row(each: Attacked) -> Sequence[str]:
    control = "not measured" if each.control is None else _interval(each.control, True)
    rates = (_interval(rate, True) for rate in (each.before, each.all, each.rest))
    return each.attack, each.changes, str(each.attempts), *rates, control


def _others(record: Mapping[str, Any], plain: Sequence[Plain]) -> Iterator[str]:
    figures = record.get("figures", {})
    if figures.get("damage_mean") is None:
        yield "Damage to the embeddings of other words: not measured."
    else:
        words = figures.get("damage_words")
        yield f"Relative squared change of {words or 'the'} other words, as the model reads them:"
        yield ""
        yield from _table(("damage", "value"), ((PLAIN_WORDS[key][0], number(figures[key])) for key in OTHERS))
        worst = ", ".join(f"{word} {number(value)}" for word, value in figures.get("worst_words", [])[:WORST])
        yield from ("", f"Most damaged: {worst}." if worst else "")
    yield ""
    rates = [(each, rate) for each in plain for rate in each.rates if rate.is_about_others]
    if not rates:
        yield "Pictures of concepts that must stay (PSR): not measured."
    for each, rate in rates:
        edited, base = _rate_row(rate)[1:]
        yield f"- {rate.metric} on `{each.suite}`: {edited}, unedited {base}.{_lowest(rate)}"


def _lowest(rate: Rate) -> str:
    """The classes that suffer most."""
    if rate.higher_is_better is None or len(rate.classes) < 2:
        return ""
    sign = 1 if rate.higher_is_better else -1
    worse = [label for label, own in rate.classes.items() if sign * own.value < sign * rate.edited.value]
    worst = sorted(worse, key=lambda label: sign * rate.classes[label].value)[:WORST]
    told = ", ".join(f"{label} {_interval(rate.classes[label], rate.is_rate)}" for label in worst)
    return f" Worst: {told}." if worst else ""


def _leaks(subject: Subject, attacks: Sequence[Attacks]) -> Iterator[str]:
    every = [each for some in attacks for each in some.attacks]
    if not every:
        yield "- Attacks: not measured. That none is named here does not mean that none works."
    for each in every:
        yield f"- {_leak(each)}"
    yield from (f"- {text}" for text in _recovery(subject))
    if subject.record.get("gate", {}).get("missed"):
        yield f"- Ask for the concept, and do not open the gate: {', '.join(subject.record['gate']['missed'])}."
    yield "- Whoever has the base model, or trains this one further, draws the concept again."


def _leak(each: Attacked) -> str:
    if not each.is_judged:
        loss = "" if each.loss is None else f"; its mean loss is {number(each.loss)} (0: the concept restored)"
        return f"`{each.attack}`: whether it brings the concept back was not measured, no picture was drawn{loss}."
    tried = f"{each.all.count} attempt{'' if each.all.count == 1 else 's'}"
    if each.all.value == 0:
        return f"`{each.attack}` brought nothing back in {tried}: {_interval(each.all, True)} %."
    rest = f"; {_interval(each.rest, True)} % where the plain prompt does not" if each.rest.count else ""
    return f"`{each.attack}` **brings it back** in {_interval(each.all, True)} % of {tried}{rest}."


def _recovery(subject: Subject) -> Iterator[str]:
    """What an embedding can undo, whatever its text."""
    figures = subject.record.get("figures", {})
    if "recovery_floor" not in figures:
        why = "it is of linear maps" if subject.is_tuned else "this edit's record does not have it"
        yield f"Recovery floor, what no embedding brings back: not measured, {why}."
    elif figures.get("kernel_rank", 0) == 0:
        yield "Some embedding brings all of the concept back: the map has an inverse (recovery floor 0)."
    else:
        floor = number(figures["recovery_floor"])
        yield f"Recovery floor {floor}: that share of the concept no embedding brings back."
    if "recovery_norm" not in figures:
        yield "Recovery norm, the length of the shortest embedding that undoes the edit: not measured."
    elif figures["recovery_norm"] is None:
        yield "No embedding undoes the edit to within 10 % (recovery norm)."
    else:
        length = number(figures["recovery_norm"])
        yield f"Recovery norm {length}: the shortest embedding that undoes it to within 10 %; the concept's own is 1."


def _licence(subject: Subject) -> Iterator[str]:
    licence = subject.licence
    if licence.stated:
        stated = ", ".join(licence.stated.values())
        yield f"The base model states `{stated}` ({licence.place}). That is what the metadata of this card repeats."
    else:
        yield "No licence of the base model was found beside it, so the metadata of this card says `unknown`."
    if licence.files:
        yield f"Beside the base lie: {', '.join(licence.files)}."
    yield (
        "Whether the base may be changed and handed on is yours to check: read its licence where it came from. What is "
        "made from its weights may fall under it."
    )


def _table(head: Sequence[str], rows: Any) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(_cell(each) for each in row)} |"


def _cell(text: str) -> str:
    """A text that neither ends the cell nor starts a tag."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")


def _said(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else "–" if value is None else number(value)


def _hash(text: str | None) -> str:
    return f"`{text}`" if text else "not recorded"


def _share(stored: Mapping[str, Any]) -> str:
    return f"{_interval(Estimate.from_dict({'clusters': 0, **stored}), True)} %"


def _interval(estimate: Estimate, is_rate: bool, nothing: str = "not measured") -> str:
    if not estimate.count:
        return nothing
    return interval(estimate.value, estimate.low, estimate.high, is_rate)
