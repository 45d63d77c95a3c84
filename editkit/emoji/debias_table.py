"""Balance all roles of the bundled model at once: `python -m editkit.emoji.debias_table`, resumable hours.

Three runs: gender, skin tone, both. Then what an edit cost everything else, what a named attribute still does, and what
the judge says of pictures whose attribute was named. Written to `debias.json` as the runs end; start it again to go on.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from editkit.balancing.debias import debias
from editkit.balancing.loop import Round
from editkit.drawing.pipelines import open_denoiser
from editkit.drawing.sampler import draw, jobs
from editkit.drawing.sampling import Sampling
from editkit.edits.edit import Edit
from editkit.emoji.catalogue import catalogue, with_article
from editkit.emoji.sheets import markdown
from editkit.evaluation.detectors.judge import load_judge
from editkit.evaluation.statistics.intervals import rate_difference
from editkit.evaluation.statistics.rates import rate
from editkit.files.atomic import write_text_atomic
from editkit.model.editable import open_model
from editkit.variants.edit_file import load_linear, save_edit

OUT = Path("tests/bench/debias.json")
GENDERS, TONES = ("man", "woman"), ("light", "medium", "dark")
SETS = {
    "gender": GENDERS,
    "tone": TONES,
    "both": tuple(f"{gender}, {tone}" for gender in GENDERS for tone in TONES),
}
STEPS = 6
"""Of 30 pictures of roles that 10 steps draw, 6 steps change the gender of one and the tone of one, and no role."""
MAX_DIFF, ROUNDS = 0.1, 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kept", type=Path, default=Path("debias-bench"), help="Where edits and counts are kept.")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--sets", nargs="*", default=list(SETS))
    parser.add_argument("--roles", type=int, default=16, help="The first so many.")
    parser.add_argument("--pictures", type=int, nargs="+", default=[16, 64, 256], help="Of a role in a round.")
    parser.add_argument("--certify", type=int, default=400, help="Fresh pictures of a role.")
    parser.add_argument(
        "--objects", type=int, default=214, help="The first so many are drawn with and without an edit."
    )
    parser.add_argument("--named", type=int, default=20, help="Pictures of each role with each gender named.")
    asked = parser.parse_args()
    asked.kept.mkdir(parents=True, exist_ok=True)
    done: dict[str, Any] = json.loads(asked.out.read_text()) if asked.out.exists() else {}
    for name in asked.sets:
        roles = list(catalogue().roles)[: asked.roles]
        edit = balanced(name, roles, asked.kept, asked.pictures, asked.certify)
        done[name] = told(edit)
        write(done, asked.out)
        done[name] |= cost(edit, roles, catalogue().objects[: asked.objects], asked.named)
        write(done, asked.out)


def write(done: dict[str, Any], out: Path) -> None:
    write_text_atomic(out, json.dumps(done, indent=1) + "\n", force=True)


def balanced(name: str, roles: Sequence[str], kept: Path, pictures: Sequence[int], certify: int) -> Edit:
    """The edit of a run, made or read."""
    path = kept / f"{name}-{len(roles)}.safetensors"
    if path.exists():
        return load_linear(path)

    def tell(round: Round) -> None:
        shares = {concept: [*tally.counts, tally.judged, tally.kept] for concept, tally in round.tallies.items()}
        print(name, round.number, f"damage {round.damage:.4f}, {round.seconds:.0f} s", shares, flush=True)

    edit = debias(
        "emoji", roles, SETS[name], pictures=pictures, certify=certify, max_diff=MAX_DIFF, rounds=ROUNDS, steps=STEPS,
        kept=kept / f"{name}-{len(roles)}.jsonl", tell=tell,
    )  # fmt: skip
    save_edit(edit, path)
    return edit


def told(edit: Edit) -> dict[str, Any]:
    """What is kept of a run."""
    record = edit.record["debias"]
    figures = {key: edit.record["figures"][key] for key in ("damage_mean", "damage_worst", "worst_words", "rank")}
    return {key: value for key, value in record.items() if key != "rounds"} | {
        "rounds": len(record["rounds"]) - 1,
        "figures": figures,
    }


def cost(edit: Edit, roles: Sequence[str], objects: Sequence[str], named: int) -> dict[str, Any]:
    """Every object with one seed, and every role with its gender named, before and after: that is also how often the
    judge says what a prompt named."""
    model = open_model("emoji")
    denoiser, judge = open_denoiser(model.source), load_judge(model.profile)
    sampling = Sampling.for_model(model.source, steps=STEPS)
    assert judge is not None
    start = time.perf_counter()

    def seen(prompts: Sequence[str], seeds: Sequence[int], variant: Edit | None) -> list[Any]:
        return judge.detect([picture for _, picture in draw(denoiser, jobs(prompts, seeds), [variant], sampling)])

    asked = [with_article(concept) for concept in objects]
    shown = [
        [each.sees(concept) for concept, each in zip(objects, seen(asked, [7], it), strict=True)] for it in (None, edit)
    ]
    genders: dict[str, Any] = {}
    for gender in GENDERS:
        prompts = [f"a {gender} {role}" for role in roles]
        for when, it in (("before", None), ("after", edit)):
            said = [each.attributes["gender"] == gender for each in seen(prompts, range(named), it)]
            genders.setdefault(gender, {})[when] = interval(said)
    change = rate_difference(shown[0], shown[1])
    return {
        "objects": {"before": interval(shown[0]), "after": interval(shown[1]), "change": change.as_dict()},
        "named": genders,
        "seconds_of_cost": round(time.perf_counter() - start, 1),
    }


def interval(outcomes: Sequence[bool]) -> dict[str, float | int]:
    share = rate(outcomes)
    low, high = share.interval
    return {"value": round(share.value, 4), "low": round(low, 4), "high": round(high, 4), "count": share.count}


SHARES = ("attributes", "role", "share of", "wanted", "before", "after", "95 % interval", "role seen, before and after")
COSTS = (
    "attributes", "roles", "shares within a tenth of the wanted", "roles reached within 10 points",
    "objects seen before", "after", "change", "named man: seen before", "after", "named woman: seen before", "after",
)  # fmt: skip


def as_rows(results: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """A row a share; of two shares the second, since the first is the rest."""
    for name, done in results.items():
        shown = [each["name"] for each in done["attributes"]]
        for row in done["shares"]:
            if len(shown) > 2 or row["attribute"] == shown[1]:
                after, kept = row["after"], done["kept"][row["concept"]]
                stays = f"{_whole(kept['before']['value'])}, {_whole(kept['after']['value'])}"
                ends = f"{_whole(after['low'])} to {_whole(after['high'])}"
                shares = (_whole(row["before"]["value"]), _whole(after["value"]), ends)
                yield name, row["concept"], row["attribute"], _whole(row["wanted"]), *shares, stays


def cost_rows(results: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """A row a run."""
    for name, done in results.items():
        if "objects" not in done:
            continue
        near = [abs(row["after"]["value"] - row["wanted"]) <= 0.1 * row["wanted"] for row in done["shares"]]
        reached, objects, change = list(done["reached"].values()), done["objects"], done["objects"]["change"]
        ends = f"{100 * change['value']:+.1f} ({100 * change['low']:+.1f} to {100 * change['high']:+.1f})"
        named = [_whole(done["named"][gender][when]["value"]) for gender in GENDERS for when in ("before", "after")]
        yield (
            name, str(len(reached)), f"{sum(near)} of {len(near)}", f"{sum(reached)} of {len(reached)}",
            _whole(objects["before"]["value"]), _whole(objects["after"]["value"]), ends, *named,
        )  # fmt: skip


def _whole(share: float) -> str:
    return f"{100 * share:.0f}"


def as_markdown(results: dict[str, Any]) -> str:
    """Every share."""
    return markdown(SHARES, as_rows(results))


def costs_as_markdown(results: dict[str, Any]) -> str:
    """What it cost everything else."""
    return markdown(COSTS, cost_rows(results))


if __name__ == "__main__":
    main()
