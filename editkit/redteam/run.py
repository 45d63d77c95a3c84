"""The loop of all attacks: search, draw, judge, write down; what is done already is read back."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from editkit.drawing.files import Shard
from editkit.drawing.pipelines import open_denoiser
from editkit.drawing.pipelines.denoiser import Condition, Denoiser
from editkit.errors import EditkitError
from editkit.files.atomic import write_atomic, write_text_atomic
from editkit.redteam.arena import Arena
from editkit.redteam.attempt import Attempt, Proposal
from editkit.redteam.cost import Cost
from editkit.redteam.findings import Findings
from editkit.redteam.found_report import write_found_report
from editkit.redteam.replay import AGNOSTIC, Origin
from editkit.redteam.request import AttackPlan, Entry
from editkit.redteam.shot import Shot
from editkit.redteam.target import Target

RUN, FOUND, TABLE, REPORT = "attack.json", "found.csv", "found.parquet", "report"


def run_attacks(plan: AttackPlan) -> Findings:
    """Every attack on every concept of every variant."""
    folder = plan.request.out
    if folder is not None:
        _claim(folder, plan)
    run = Run(plan, folder)
    attempts: list[Attempt] = []
    costs: dict[tuple[str, str, str], Cost] = {}
    jobs = [(entry, name, target) for entry in plan.entries for name in _names(plan) for target in plan.targets]
    with _shown(len(jobs)) as (advance, tell):
        for entry, name, target in jobs:
            tell(f"{entry.name}: {name}, {target.concept}")
            some, cost = run.job(entry, name, target, tell)
            attempts += some
            costs[entry.name, name, target.concept] = cost
            advance()
    shifts = {entry.name: run.null_shift(entry) for entry in plan.entries}
    findings = Findings(tuple(attempts), costs, shifts, plan.record)
    if folder is not None:
        findings = replace(findings, files=_write(plan, findings, folder))
    return findings


def _names(plan: AttackPlan) -> list[str]:
    if plan.replay is None:
        return list(plan.attacks)
    return list(dict.fromkeys(row.attack for row in plan.replay.rows))


@dataclass
class Run:
    """A run under way: the loaded denoiser, one arena a variant, and what the unattacked prompts draw."""

    plan: AttackPlan
    folder: Path | None
    _denoiser: Denoiser | None = None
    _arenas: dict[str, Arena] = field(default_factory=dict)
    _plain: dict[tuple[str, str, str], tuple[bool | None, ...]] = field(default_factory=dict)

    def job(self, entry: Entry, name: str, target: Target, tell: Any) -> tuple[list[Attempt], Cost]:
        """One attack on one concept of one variant."""
        place = f"{entry.name}/{name}/{slug(target.concept)}.json"
        kept = None if self.folder is None else self.folder / "attempts" / place
        if kept is not None and kept.is_file():
            stored = json.loads(kept.read_text(encoding="utf-8"))
            return [Attempt.from_dict(each) for each in stored["attempts"]], Cost(**stored["cost"])
        arena = self.arena(entry)
        arena.begin()
        arena.tell = lambda text: tell(f"{entry.name}: {name}, {target.concept}: {text}")
        with arena.cost.timed():
            found = self._found(arena, entry, name, target)
            drawn = self._drawn(arena, entry, name, target, [each for each, _ in found])
        cost = arena.cost
        arena.cost = Cost()  # the unattacked prompts are no part of the attack
        attempts = [
            self._attempt(arena, entry, name, target, each, origin, *seen)
            for (each, origin), seen in zip(found, drawn, strict=True)
        ]
        if kept is not None:
            stored = {"cost": cost.as_dict(), "attempts": [each.as_dict() for each in attempts]}
            write_text_atomic(kept, json.dumps(stored) + "\n", force=True)
        return attempts, cost

    def arena(self, entry: Entry) -> Arena:
        if entry.name not in self._arenas:
            self._arenas[entry.name] = self._first.of(entry.variant)
        return self._arenas[entry.name]

    @cached_property
    def _first(self) -> Arena:
        """What the arenas of all variants share."""
        plan = self.plan
        return Arena(
            plan.model, None, self._opened(), plan.judge, plan.sampling, plan.seeds, plan.request.seed, plan.limit
        )

    def _opened(self) -> Denoiser | None:
        if self._denoiser is None and self.plan.seeds:
            self._denoiser = open_denoiser(
                self.plan.model.source,
                self.plan.request.device or Shard.from_environment().device(),
                self.plan.sampling.placement,
            )
            self._denoiser.network.requires_grad_(False)
        return self._denoiser

    def null_shift(self, entry: Entry) -> float | None:
        """Of a drawn variant: how far the rows of the empty prompt move."""
        if not self.plan.seeds or entry.variant is None:
            return 0.0 if entry.variant is None else None
        return self.arena(entry).victim_for("").null_shift(Cost())

    def _found(self, arena: Arena, entry: Entry, name: str, target: Target) -> list[tuple[Proposal, Origin]]:
        """What to draw, and where it was found."""
        replay = self.plan.replay
        if replay is None:
            attack = self.plan.attacks[name]
            is_asked = attack.access not in ("none", "encoder")
            origin = Origin("adaptive", entry.name, entry.sha256) if is_asked else Origin(AGNOSTIC, AGNOSTIC, None)
            return [(found, origin) for found in attack.attack(arena, target)]
        rows = [row for row in replay.rows if (row.attack, row.concept) == (name, target.concept)]
        return [(Proposal(row.source, row.prompt, loss=row.loss), row.origin(entry.sha256)) for row in rows]

    def _drawn(
        self, arena: Arena, entry: Entry, name: str, target: Target, found: Sequence[Proposal]
    ) -> list[tuple[tuple[int, ...], tuple[bool | None, ...], tuple[str, ...]]]:
        """Of every attempt the seeds of its pictures, whether they show the concept, and their files."""
        if not self.plan.seeds or not found:
            return [((), (), ()) for _ in found]
        shots = [each.shots or tuple(Shot(seed) for seed in self.plan.seeds) for each in found]
        raw = [_condition(arena, each) for each in found]
        asked = [
            (condition, None if each.rows is not None else each.prompt or each.source, shot)
            for each, condition, some in zip(found, raw, shots, strict=True)
            for shot in some
        ]
        pictures = arena.draw_rows(asked)
        hits = iter(arena.judged(pictures, target))
        waiting = iter(pictures)
        drawn = []
        for n, some in enumerate(shots):
            files = tuple(
                self._keep(next(waiting), f"{entry.name}/{name}/{slug(target.concept)}/{n}-{m}.png")
                for m in range(len(some))
            )
            drawn.append(
                (tuple(shot.seed for shot in some), tuple(next(hits) for _ in some), files if files[0] else ())
            )
        return drawn

    def _keep(self, picture: Image.Image, place: str) -> str:
        if self.folder is None:
            return ""
        file = f"pictures/{place}"
        write_atomic(self.folder / file, picture.save, force=True)
        return file

    def _attempt(
        self, arena: Arena, entry: Entry, name: str, target: Target, found: Proposal, origin: Origin,
        seeds: tuple[int, ...], hits: tuple[bool | None, ...], files: tuple[str, ...],
    ) -> Attempt:  # fmt: skip
        changes = "tokens" if self.plan.replay is not None else self.plan.attacks[name].changes
        naming = "" if found.prompt is None else target.naming(_without(found.prompt, found.source))
        return Attempt(
            name, changes, origin.protocol, entry.name, entry.sha256, target.concept, found.source, found.prompt,
            found.ids, found.loss, found.plain, seeds, hits, self._unattacked(arena, entry, target, found.source),
            naming, files, tuple(found.log), found.figures, origin.against, origin.sha256,
        )  # fmt: skip

    def _unattacked(self, arena: Arena, entry: Entry, target: Target, prompt: str) -> tuple[bool | None, ...]:
        """What the judge says of the unattacked prompt at the seeds that count."""
        if not self.plan.seeds:
            return ()
        key = (entry.name, target.concept, prompt)
        if key not in self._plain:
            self._plain[key] = tuple(arena.judged(arena.draw([prompt], self.plan.seeds), target))
        return self._plain[key]


def _condition(arena: Arena, found: Proposal) -> Condition:
    if found.rows is None:
        return arena.victim_for("").raw([found.prompt or found.source], arena.cost)
    raw = arena.victim_for("").raw([found.source], arena.cost)
    return replace(raw, text=found.rows[None].to(raw.text), mask=None)


def _without(prompt: str, source: str) -> str:
    """What the attack added before, behind or between the words of the unattacked prompt: that is judged by itself.

    >>> _without("axe a photo of taco a church", "a photo of a church")
    'axe taco'
    """
    asked, added = source.split(), []
    for word in prompt.split():
        if asked and word == asked[0]:
            del asked[0]
        else:
            added.append(word)
    return prompt if asked else " ".join(added)


def slug(concept: str) -> str:
    """As a file name."""
    return re.sub(r"\W+", "-", concept.lower()).strip("-") or "concept"


def _claim(folder: Path, plan: AttackPlan) -> None:
    """Take a new folder, or go on in the one of the same run.

    Raises:
        EditkitError: it is another run's, or no folder of a run.
    """
    mark, wanted = folder / RUN, json.loads(json.dumps(plan.record))
    if folder.exists() and not folder.is_dir():
        raise EditkitError(f"{folder}: expected a folder name, this is a file; give another --out")
    if mark.is_file():
        stored = json.loads(mark.read_text(encoding="utf-8"))["record"]
        if stored == wanted:
            return
        if not plan.request.force:
            changed = next(key for key in {*stored, *wanted} if stored.get(key) != wanted.get(key))
            raise EditkitError(
                f"{folder}: holds another run ({changed} differs); give another --out, or --force to replace it"
            )
        for name in ("attempts", "pictures", REPORT):
            shutil.rmtree(folder / name, ignore_errors=True)
    elif folder.exists() and any(folder.iterdir()):
        raise EditkitError(f"{folder}: is not empty and no attack's ({RUN} is missing); give another --out")
    write_text_atomic(mark, json.dumps({"record": wanted}, indent=1) + "\n", force=True)


def _write(plan: AttackPlan, findings: Findings, folder: Path) -> tuple[Path, ...]:
    findings.write_csv(folder / FOUND, force=True)
    findings.write_parquet(folder / TABLE, force=True)
    write_text_atomic(folder / RUN, json.dumps(findings.as_dict(), indent=1, ensure_ascii=False) + "\n", force=True)
    return (folder / FOUND, folder / TABLE, folder / RUN, *write_found_report(plan, findings, folder / REPORT))


@contextmanager
def _shown(total: int) -> Iterator[tuple[Any, Any]]:
    """A progress bar with the time left: what moves it on, and what changes its text."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("attacking", total=total)
        yield lambda: bar.advance(task), lambda text: bar.update(task, description=text)
