"""`editkit attack`: what brings an erased concept back."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from editkit.concepts.profile import ProfileOrFile
from editkit.drawing.sampling import Settings
from editkit.edits.variant import Variant
from editkit.errors import EditkitError
from editkit.model.editable import ModelLike
from editkit.plugins import GROUPS
from editkit.redteam.findings import Findings
from editkit.redteam.request import AttackRequest, prepare_attack
from editkit.redteam.run import run_attacks

Attackable = Variant | str | os.PathLike[str]


def attack(
    variants: Attackable | Sequence[Attackable],
    concepts: Sequence[str] = (),
    attacks: Sequence[str] = (GROUPS["attacks"].default,),
    model: ModelLike = None,
    suite: str | None = None,
    split: str | None = None,
    prompts: Path | str | None = None,
    detector: str | None = None,
    replay: Path | str | None = None,
    out: Path | str | None = None,
    budget: str | float = "quick",
    pictures: int = 4,
    seed: int = 0,
    control: bool = True,
    device: str | None = None,
    force: bool = False,
    profile: ProfileOrFile | None = None,
    settings: Settings | None = None,
    **given: Any,
) -> Findings:
    """Try to bring back what variants of a model erased, with each of `attacks`, each concept on its own.

    Args:
        variants: edits, what `refine` or `hide` made, their files, `base` for the unedited model, `RELEASE+KEY`. The
            model is attacked with them, never without.
        concepts: default: those of the suite's split, else those that the variants erase.
        attacks: names of `editkit.attacks()`.
        model: as `open_model` takes it, or what it returns.
        suite: whose classes, templates and detector are used.
        split: of the suite; default: what the variants erase.
        prompts: a file of unattacked prompts, in place of the suite's or the profile's templates. Rows that name a
            class are for that concept, others for all.
        detector: who judges, in place of the suite's or the profile's.
        replay: found prompts of an earlier run (`found.csv`); these are drawn with every variant, and nothing is
            searched.
        out: folder for findings, pictures and report; a second run goes on where the first was stopped.
        budget: `quick`, `paper`, or seconds for each attack on each concept.
        pictures: of an attempt, from seeds that no search uses. 0: nothing is drawn and judged, losses alone tell.
        seed: of the searches.
        control: attack the unedited model, too, which tells what the attack can do at all.
        device: `cpu`, `cuda`, ...; default: a GPU if there is one.
        force: replace an earlier run at `out`.
        profile: what the model brings along, or a file that says it.
        settings: how to draw, as in `editkit.drawing.sampling.Settings`.
        given: options of the attacks; each takes its own.

    Returns:
        Attempts, the table with intervals, and costs.

    Raises:
        EditkitError: a variant does not fit the model, no attack has that name, none has that option, the judge does
            not know a concept, or the budget is none.

    >>> from editkit.erasure.erase import erase
    >>> findings = attack(erase("emoji", ["church"]), attacks=["embedding"], model="emoji", pictures=0)
    >>> [(line.variant, line.attack, line.loss < 0.2) for line in findings.lines]
    [('edit', 'embedding', True), ('base', 'embedding', True)]
    """
    if not attacks and replay is None:
        raise EditkitError(f"no attack given; name at least one of {', '.join(GROUPS['attacks'].own)}")
    request = AttackRequest(
        variants=_several(variants), concepts=tuple(concepts), attacks=tuple(attacks), suite=suite, split=split,
        prompts=prompts, detector=detector, replay=replay, out=None if out is None else Path(out), budget=budget,
        pictures=pictures, seed=seed, control=control, device=device, force=force, settings=settings or {},
        options=given,
    )  # fmt: skip
    return run_attacks(prepare_attack(request, model, profile))


def _several(variants: Attackable | Sequence[Attackable]) -> tuple[Attackable, ...]:
    if isinstance(variants, list | tuple):
        return tuple(variants)
    return (variants,)  # pyright: ignore[reportReturnType]
