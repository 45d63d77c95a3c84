"""Balancing: maps are linear in their weights; the loop reaches shares of a known response, or says that it cannot."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

import editkit
from editkit.balancing import published
from editkit.balancing.debias import PUBLISHED
from editkit.balancing.judge import check_judge, shows
from editkit.balancing.loop import Loop, Outcome, Weights
from editkit.balancing.published import PublishedLoop
from editkit.balancing.rows import bare_rows, steered_rows
from editkit.balancing.shares import Tally
from editkit.balancing.steered import SteeredModel
from editkit.concepts.attributes import Attribute, attributes_of, read_attributes
from editkit.edits.gram import gram_matrix
from editkit.edits.method import Options
from editkit.edits.problem import Problem, Rows
from editkit.edits.protect import ProtectedWords
from editkit.edits.steering import Steering
from editkit.emoji.debias_table import as_markdown, costs_as_markdown
from editkit.erasure.make import Request
from editkit.errors import EditkitError
from editkit.evaluation.detectors.detection import Detection
from editkit.model.editable import open_model
from tests.cases import Case, cases, eye, forall, plain, randn
from tests.cli import run
from tests.tiny_pipelines import save

TEMPLATES = ("a {}", "a {} on a blue background")


def steered(case: Case, protect: str, tall: bool = False) -> tuple[Steering, Problem, list[Tensor]]:
    """Two concepts, the second of which may have more rows than there are dimensions, and three attributes."""
    more = randn(7, 2 * case.d if tall else 2, case.d)
    words = None if protect == "none" else case.protected
    if protect == "null":  # few enough words to leave directions that none uses
        case, words = replace(case, P=case.P[:1]), ProtectedWords(("w0",), (case.protected.rows[0][:1],))
    problem = replace(case.problem(words), rows=(Rows(case.C, case.C), Rows(more, more)))
    moves = [randn(8 + n, 3, len(rows.source), case.d) for n, rows in enumerate(problem.rows)]
    first = [torch.tensor([1.0, -0.5, 0.25]), torch.tensor([0.0, 1.0, -1.0])]
    return Steering.of(plain(protect=protect), problem, moves, first), problem, moves


def towards(problem: Problem, moves: Sequence[Tensor], weights: Sequence[Tensor]) -> Problem:
    rows = [
        Rows(part.source, part.source + sum(float(w) * A for w, A in zip(some, move, strict=True)))
        for part, move, some in zip(problem.rows, moves, weights, strict=True)
    ]
    return replace(problem, rows=tuple(rows))


@pytest.mark.parametrize("protect", ["none", "prior", "null"])
@forall(cases(), st.booleans())
def test_a_map_of_weights_is_what_a_fresh_solve_for_them_gives(protect: str, case: Case, tall: bool) -> None:
    steering, problem, moves = steered(case, protect, tall)
    weights = [randn(21, 3), randn(22, 3)]
    fresh = plain(protect=protect).solve(towards(problem, moves, weights)).maps["*"].dense()
    assert float((steering.map(weights).dense() - fresh).norm()) <= 1e-8 * float(fresh.norm())


@forall(cases())
def test_a_map_of_weights_is_the_sum_that_the_papers_write_down(case: Case) -> None:
    steering, problem, moves = steered(case, "none")
    weights = [randn(21, 3), randn(22, 3)]
    asked = towards(problem, moves, weights)
    C, T = asked.C, asked.targets
    A = 0.1 * eye(case.d) + T.T @ C + case.P.T @ case.P
    B = 0.1 * eye(case.d) + C.T @ C + case.P.T @ case.P
    np.testing.assert_allclose(steering.map(weights).dense(), A @ torch.linalg.inv(B), rtol=1e-7, atol=1e-8)


@forall(cases())
def test_maps_add_up_and_damage_grows_with_the_square(case: Case) -> None:
    steering, _, _ = steered(case, "minimax")
    first, second = [randn(31, 3), randn(32, 3)], [randn(33, 3), randn(34, 3)]
    both = steering.map([a + 2 * b for a, b in zip(first, second, strict=True)]).dense()
    apart = steering.map(first).dense() + 2 * (steering.map(second).dense() - eye(case.d))
    np.testing.assert_allclose(both, apart, atol=1e-8)
    assert steering.damage([3 * each for each in first]) == pytest.approx(9 * steering.damage(first))
    assert steering.damage([torch.zeros(3)] * 2) == 0


@pytest.mark.parametrize("protect", ["none", "prior"])
@forall(cases())
def test_what_a_concept_feels_of_every_weight_is_what_its_rows_are_moved_by(protect: str, case: Case) -> None:
    """Against the map of each single weight and least squares by QR, in place of normal equations."""
    steering, problem, moves = steered(case, protect)
    root = torch.linalg.cholesky(problem.gram)
    apart = [(move - move.mean(dim=0)).double() for move in moves]
    felt = torch.linalg.pinv(steering.alike(), rtol=1e-12)
    felt = torch.einsum("ist,itju->isju", felt, steering.pulls())
    for j in range(2):
        for t in range(3):
            weights = [torch.zeros(3).double(), torch.zeros(3).double()]
            weights[j][t] = 1
            weights[j] -= weights[j].mean()
            M = steering.map(weights)
            for i, part in enumerate(problem.rows):
                basis = ((apart[i] - apart[i][2])[:2] @ root).flatten(1).T  # of three that sum to 0, two
                moved = ((M.embeddings(part.source.double()) - part.source) @ root).flatten()
                seen = apart[i].flatten(1).T @ felt[i, :, j, t]
                expected = basis @ torch.linalg.lstsq(basis, moved[:, None]).solution[:, 0]
                found = (seen.reshape(part.source.shape) @ root).flatten()
                assert float((found - expected).norm()) <= 1e-6 * float(moved.norm() + 1e-9)


def test_who_asks_for_one_concept_moves_it_so_far_and_leaves_the_others() -> None:
    """By least squares along their own attributes: alike concepts pull at each other, and the weights answer that."""
    roles = ["cook", "teacher", "judge"]
    asked = attributes_of(["light", "medium", "dark"], None, roles)
    model = SteeredModel(
        Request(open_model("emoji"), Options("uce", protect="prior"), roles, ["all"] * 3, (), ["dog", "church"]), asked
    )
    wanted = torch.tensor([0.5, 0.25, -0.75], dtype=torch.float64)
    nothing = {role: torch.zeros(3, dtype=torch.float64) for role in roles}
    model.begin({**nothing, "cook": wanted})
    (_, steering), map = model.parts[0], model.edit({**nothing, "cook": wanted}).map
    root = torch.linalg.cholesky(steering.problem.gram + 1e-9 * eye(map.width))
    for role, part, move in zip(roles, steering.problem.rows, steering.moves, strict=True):
        own = ((move - move.mean(dim=0))[:2] @ root).flatten(1).T
        moved = ((map.embeddings(part.source.double()) - part.source) @ root).flatten()
        first, second = torch.linalg.lstsq(own, moved[:, None]).solution[:, 0].tolist()
        # β₀A₀ + β₁A₁ + β₂A₂ with A₂ = −A₀ − A₁
        expected = (wanted[0] - wanted[2], wanted[1] - wanted[2]) if role == "cook" else (0.0, 0.0)
        assert (first, second) == pytest.approx([float(each) for each in expected], abs=1e-6)
    felt = model.weights({**nothing, "cook": wanted})
    assert float(felt["teacher"].norm()) > 0 and float(felt["cook"].sum()) == pytest.approx(0, abs=1e-9)


def test_an_attribute_moves_each_token_to_where_it_stands_beside_it() -> None:
    encoders = open_model("emoji").streams[0].encoders
    made = steered_rows(encoders, "cook", [Attribute.of("woman"), Attribute.of("dark, man")], ("a {}",), "tail")
    plain_rows, woman, both = encoders[0].encode(["a cook", "a woman cook", "a dark man cook"])
    assert torch.equal(made.rows, plain_rows[2:])
    last = len(plain_rows) - 1
    for move, theirs, more in ((made.moves[0], woman, 1), (made.moves[1], both, 2)):
        expected = torch.stack([theirs[min(at + more, last)] - plain_rows[at] for at in range(2, last + 1)])
        assert torch.allclose(move, expected)


def test_an_attribute_behind_the_concept_does_not_move_the_word_itself() -> None:
    """The encoder is causal, so only what stands behind changes."""
    dark = Attribute("dark", "{} with dark skin", ("dark",))
    made = steered_rows(open_model("emoji").streams[0].encoders, "cook", [dark, Attribute.of("man")], ("a {}",), "tail")
    assert float(made.moves[0][0].abs().max()) < 1e-5 < 1e-2 < float(made.moves[0][1].abs().max())


@cache
def noise_of(concept: int, seed: int) -> float:
    return float(np.random.default_rng([concept, seed]).random())


Response = Callable[[str, Weights], Tensor]


def judged(response: Response, attributes: int, drawn: list[int] | None = None, kept: float = 99.0) -> Any:
    """Shares as a response of the weights, counted over noise that a seed alone decides; a concept is lost where its
    weights are larger than `kept`."""

    def observe(concepts: Sequence[str], weights: Weights, seeds: Sequence[int]) -> Mapping[str, Tally]:
        tallies = {}
        for n, concept in enumerate(concepts):
            ends = response(concept, weights).softmax(0).cumsum(0).numpy()
            noise = np.array([noise_of(n, seed) for seed in seeds])
            seen = np.minimum(np.searchsorted(ends, noise), attributes - 1)
            counts = tuple(int(count) for count in np.bincount(seen, minlength=attributes))
            stays = float(weights[concept].abs().max()) <= kept
            tallies[concept] = Tally(counts, len(seeds), 0, len(seeds) * stays)
            if drawn is not None:
                drawn.append(len(seeds))
        return tallies

    return observe


def looped(response: Response, wanted: Sequence[float], slope: float = 1.0, **given: Any) -> Outcome:
    usual: dict[str, Any] = {
        "pictures": (16, 64, 400, 1600), "certify": 4000, "max_diff": 0.05, "most_damage": 0.2, "rounds": 16,
        "begin": lambda first: dict.fromkeys(first, slope), "damage": lambda weights: 0.0,
        "observe": judged(response, len(wanted)), "concepts": ["cook", "judge"],
    }  # fmt: skip
    return Loop(wanted=wanted, **{**usual, **given}).run()


def linear(base: Mapping[str, Sequence[float]], gain: float) -> Response:
    return lambda concept, weights: torch.tensor(base[concept], dtype=torch.float64) + gain * weights[concept]


SKEWED = {"cook": [1.4, -1.4], "judge": [-0.7, 0.7]}
SIX = {"cook": [1.0, 0.5, 0.0, -0.5, -1.0, 0.2], "judge": [0.0, 0.0, 1.5, -1.0, 0.3, 0.1]}


@pytest.mark.parametrize("gain", [0.1, 0.3, 1.0, 3.0, 8.0])
@pytest.mark.parametrize("wanted", [(0.5, 0.5), (0.7, 0.3)])
def test_shares_of_a_known_response_are_reached(gain: float, wanted: tuple[float, float]) -> None:
    """Though the slope is a tenth of what it is thought to be at first, or eight times that."""
    outcome = looped(linear(SKEWED, gain), wanted)
    assert all(outcome.reached.values()), outcome.after
    assert outcome.before["cook"].shares[0].value > 0.85
    for concept in SKEWED:
        share = linear(SKEWED, gain)(concept, outcome.weights).softmax(0)
        assert float((share - torch.tensor(wanted)).abs().max()) < 0.05


def test_six_shares_that_pull_at_each_other_are_reached() -> None:
    pull = 0.4 * torch.eye(6, dtype=torch.float64) + 0.1 * randn(5, 6, 6)

    def response(concept: str, weights: Weights) -> Tensor:
        return torch.tensor(SIX[concept], dtype=torch.float64) + pull @ weights[concept]

    assert all(looped(response, [1 / 6] * 6, max_diff=0.06).reached.values())


def test_concepts_that_disturb_each_other_are_reached_together() -> None:
    def response(concept: str, weights: Weights) -> Tensor:
        other = weights["judge" if concept == "cook" else "cook"]
        return linear(SKEWED, 1.0)(concept, weights) + 0.3 * other

    assert all(looped(response, (0.5, 0.5), max_diff=0.07).reached.values())


def test_few_pictures_are_drawn_while_few_tell_enough() -> None:
    drawn: list[int] = []
    outcome = looped(linear(SKEWED, 1.0), (0.5, 0.5), observe=judged(linear(SKEWED, 1.0), 2, drawn))
    rounds = drawn[2:-2]  # without what was drawn before, and the certificate
    assert rounds[0] == 16 and drawn[-1] == 4000 and {*rounds} <= {16, 64, 400, 1600}
    assert rounds.count(1600) <= 5 and len(outcome.rounds) <= 9


def test_a_concept_that_is_settled_is_not_drawn_before_all_are_and_then_once_more() -> None:
    even = {"cook": [0.0, 0.0], "judge": [2.0, -2.0]}
    outcome = looped(linear(even, 0.2), (0.5, 0.5))
    drawn = ["cook" in each.tallies for each in outcome.rounds]
    assert drawn[-1] and not any(drawn[-3:-1]) and {*outcome.rounds[-1].tallies} == {"cook"}
    assert torch.equal(outcome.rounds[-1].weights["judge"], outcome.rounds[-2].weights["judge"])


def test_a_settled_concept_that_others_moved_steps_again() -> None:
    even = {"cook": [0.0, 0.0], "judge": [2.0, -2.0]}

    def response(concept: str, weights: Weights) -> Tensor:
        return linear(even, 0.2)(concept, weights) + (0.1 * weights["judge"] if concept == "cook" else 0)

    assert all(looped(response, (0.5, 0.5), max_diff=0.06).reached.values())


def test_one_that_comes_no_nearer_does_not_keep_the_settled_from_their_second_look() -> None:
    """The judge settles at once; then the cook steps, which moves the judge and not the cook."""
    start = {"cook": [2.0, -2.0], "judge": [0.0, 0.0]}

    def response(concept: str, weights: Weights) -> Tensor:
        if concept == "cook":
            return torch.tensor(start["cook"], dtype=torch.float64)
        return linear(start, 1.0)(concept, weights) + 0.2 * weights["cook"]

    outcome = looped(response, (0.5, 0.5), max_diff=0.07, rounds=20)
    assert outcome.reached["judge"] and not outcome.reached["cook"]
    assert outcome.stopped == "cook: no nearer in 5 rounds; the pictures of the others are as wanted"
    last = max(each.number for each in outcome.rounds if "cook" in each.tallies)
    assert all({*each.tallies} == {"judge"} for each in outcome.rounds[last + 1 :]) and last + 1 < len(outcome.rounds)


def test_what_does_not_respond_is_not_reached_and_says_so() -> None:
    outcome = looped(linear(SKEWED, 0.0), (0.5, 0.5), rounds=5)
    assert not any(outcome.reached.values()) and outcome.stopped == "5 rounds"
    low, high = outcome.after["cook"].shares[1].interval
    assert low < 0.0573 < high  # softmax of -1.4 beside 1.4


def test_steps_end_where_the_worst_word_has_taken_what_it_may() -> None:
    def damage(weights: Weights) -> float:
        return max(float(some.square().sum()) for some in weights.values())

    outcome = looped(linear(SKEWED, 0.5), (0.5, 0.5), damage=damage, most_damage=0.5)
    assert damage(outcome.weights) <= 0.5 and not outcome.reached["cook"]
    assert "damaged by more than 0.5" in outcome.stopped
    assert max(each.damage for each in outcome.rounds) <= 0.5
    assert damage(outcome.weights) > 0.4, "it goes as far as it may"


def test_weights_that_leave_the_concept_are_taken_back() -> None:
    """Past a weight of 5 nothing of the concept is left; 14 would be needed."""
    outcome = looped(linear(SKEWED, 0.1), (0.5, 0.5), rounds=8, observe=judged(linear(SKEWED, 0.1), 2, kept=5.0))
    assert not outcome.reached["cook"] and outcome.after["cook"].kept == 4000
    assert 1.0 < float(outcome.weights["cook"].abs().max()) <= 5.0


def test_the_certificate_is_of_seeds_that_no_round_drew() -> None:
    asked: list[set[int]] = []

    def observe(concepts: Sequence[str], weights: Weights, seeds: Sequence[int]) -> Mapping[str, Tally]:
        asked.append({*seeds})
        return judged(linear(SKEWED, 1.0), 2)(concepts, weights, seeds)

    looped(linear(SKEWED, 1.0), (0.5, 0.5), observe=observe, seed=3, certify=100)
    before, *rounds, after = asked
    assert min(after) == 100_003 and len(after) == 100 and before <= after
    assert all(some == {*range(3, 3 + len(some))} for some in rounds)


def test_the_published_loop_is_what_its_code_does() -> None:
    """Each round solves each layer anew against the original weights, towards targets that were added to in place."""
    d, lamb, wanted = 8, 0.5, torch.tensor([0.3, 0.7], dtype=torch.float64)
    concepts, C = ("cook", "judge"), randn(1, 2, d)
    A, W = randn(2, 2, d), {"k": randn(3, 5, d), "v": randn(4, 9, d)}
    shown = [torch.tensor(some, dtype=torch.float64) for some in ([0.9, 0.1], [0.6, 0.4], [0.4, 0.6], [0.3, 0.7])]
    targets = {name: weight @ C.T for name, weight in W.items()}
    for shares in shown[:3]:
        for name, weight in W.items():
            for t in range(2):
                targets[name] += (wanted[t] - shares[t]) * (weight @ A[t])[:, None]
    naive = {}
    for name, weight in W.items():
        left, right = lamb * weight, lamb * eye(d)
        for i in range(2):
            left = left + torch.outer(targets[name][:, i], C[i])
            right = right + torch.outer(C[i], C[i])
        naive[name] = left @ torch.linalg.inv(right)
    turns = iter([shown[0], *shown])

    def observe(concepts: Sequence[str], weights: Weights, seeds: Sequence[int]) -> Mapping[str, Tally]:
        shares = next(turns, shown[-1])
        return {concept: Tally(tuple(round(10 * float(share)) for share in shares), 10) for concept in concepts}

    outcome = PublishedLoop(concepts, wanted.tolist(), observe, lambda weights: 0.0, 10, 10, 0.05).run()
    assert len(outcome.rounds) == 4 and "within 0.05" in outcome.stopped
    problem = Problem(tuple(Rows(c[None], c[None]) for c in C), None, W, gram_matrix(W.values(), d), None)
    steering = Steering.of(Options("uce", **PUBLISHED), problem, [A[:, None]] * 2, [torch.ones(2)] * 2)
    made = steering.map([outcome.weights[concept] for concept in concepts])
    for name, weight in W.items():
        np.testing.assert_allclose(made.weight(weight), naive[name], atol=1e-9)


def test_the_published_loop_draws_new_noise_and_steers_by_bare_words() -> None:
    asked: list[range] = []

    def observe(concepts: Sequence[str], weights: Weights, seeds: Any) -> Mapping[str, Tally]:
        asked.append(seeds)
        return {concept: Tally((9, 1), 10) for concept in concepts}

    PublishedLoop(["cook"], [0.5, 0.5], observe, lambda weights: 0.0, 10, 10, 0.05).run()
    _, *rounds, _ = asked
    assert len(rounds) == 30 and [seeds[0] for seeds in rounds] == list(range(0, 300, 10))
    encoders = open_model("emoji").streams[0].encoders
    made = bare_rows(encoders, "health worker", [Attribute.of("man"), Attribute.of("woman")])
    worker, man, woman = encoders[0].encode(["health worker", "man", "woman"])
    assert torch.equal(made.rows, worker[2:3])
    assert torch.equal(made.moves, torch.stack([man[1:2], woman[1:2]]))


WORDS = ["church", "dog", "pizza"]
SHORT: dict[str, Any] = {"pictures": (3,), "certify": 5, "rounds": 1, "steps": 1, "max_diff": 0.4, "vocabulary": WORDS}


@pytest.fixture(scope="module")
def fair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, editkit.Edit]:
    """A short run on the bundled model, and where its counts are."""
    kept = tmp_path_factory.mktemp("fair") / "fair.rounds.jsonl"
    return kept, editkit.debias("emoji", ["cook", "teacher"], ["man", "woman"], kept=kept, **SHORT)


def test_a_run_says_all_that_it_saw(fair: tuple[Path, editkit.Edit]) -> None:
    kept, edit = fair
    told = edit.record["debias"]
    assert [(row["concept"], row["attribute"]) for row in told["shares"]] == [
        (concept, attribute) for concept in ("cook", "teacher") for attribute in ("man", "woman")
    ]
    for row in told["shares"]:
        assert row["after"]["count"] == 5 and row["before"]["count"] == 3
        assert row["after"]["low"] <= row["after"]["value"] <= row["after"]["high"]
    for first, second in zip(told["shares"][::2], told["shares"][1::2], strict=True):
        assert first["after"]["value"] + second["after"]["value"] == pytest.approx(1, abs=1e-4)
    assert told["judge"] == "emoji-judge" and told["seeds"] == {"rounds": 0, "fresh": 100_000}
    assert {*told["reached"]} == {"cook", "teacher"} == {*told["kept"]}
    assert told["drawn"] == kept.read_text().count("\n") == 2 * (3 + 3 + 5)
    assert edit.is_global and edit.record["method"] == "debias" and edit.record["figures"]["damage_worst"] < 0.2
    for weights in told["weights"].values():
        assert sum(weights) == pytest.approx(0, abs=1e-4)


def test_the_page_states_the_committed_tables() -> None:
    root = Path(__file__).parents[1]
    results = json.loads((root / "tests" / "bench" / "debias.json").read_text())
    page = (root / "docs" / "how-to" / "debias.md").read_text(encoding="utf-8")
    for table in (as_markdown(results), costs_as_markdown(results)):
        assert table in page, table


def test_the_page_on_files_has_every_key(fair: tuple[Path, editkit.Edit]) -> None:
    page = (Path(__file__).parents[1] / "docs" / "edit-file.md").read_text(encoding="utf-8")
    section = page.split("### Balanced concepts\n")[1].split("\n## ")[0]
    assert {*re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)} == {*fair[1].record["debias"]}
    for row in (*fair[1].record["debias"]["shares"], *fair[1].record["debias"]["rounds"]):
        assert all(f"`{key}`" in section for key in row)


def test_the_command_goes_on_where_it_was_stopped_and_info_prints_the_same(
    fair: tuple[Path, editkit.Edit], tmp_path: Path
) -> None:
    kept, edit = fair
    words = ["debias", "--concept", "cook", "--concept", "teacher", "--attribute", "man", "--attribute", "woman"]
    words += ["--pictures", "3", "--certify", "5", "--rounds", "1", "--steps", "1", "--max-diff", "0.4"]
    words += ["--vocabulary", "words.txt", "--out", "fair.safetensors"]
    (tmp_path / "words.txt").write_text("\n".join(WORDS))
    (tmp_path / "fair.rounds.jsonl").write_text(kept.read_text() + '["half a li')  # stopped while it wrote
    said = run(*words, cwd=tmp_path)
    for text in ("Shares of pictures", "cook", "woman", "50.0 %", "seeds from 100000", "judged by emoji-judge"):
        assert text in said
    assert run("info", "fair.safetensors", cwd=tmp_path) == said
    record = json.loads(run("info", "fair.safetensors", "--json", cwd=tmp_path))
    assert record["debias"]["drawn"] == 0
    assert record["debias"]["shares"] == edit.record["debias"]["shares"]
    assert "exists and is not overwritten" in run(*words, cwd=tmp_path, code=1)


def test_the_published_loop_runs_on_the_bundled_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "ROUNDS", 1)
    monkeypatch.setattr(published, "PICTURES", 2)
    short = {**SHORT, "certify": 2, "pictures": (2,)}
    edit = editkit.debias("emoji", ["cook"], ["man", "woman"], ratios=[0.25, 0.75], loop="published", **short)
    told, options = edit.record["debias"], edit.record["options"]
    assert (options["protect"], options["tokens"], options["lamb"]) == ("none", "last", 0.5)
    (seen,) = (each["concepts"]["cook"] for each in told["rounds"])
    steps = [wanted - count / 2 for wanted, count in zip((0.25, 0.75), seen["counts"], strict=True)]
    assert told["weights"]["cook"] == pytest.approx(steps) and edit.map.rank == 1


def test_every_stream_of_a_model_is_steered(tmp_path: Path) -> None:
    """SDXL reads rows and a pooled vector; each has a map of its own, linear in the same weights."""
    model = open_model(save("sdxl", tmp_path / "model"))
    asked = attributes_of(["man", "woman"], None, ["cook"])
    request = Request(model, Options("uce", protect="prior"), ["cook"], ["both"], (), ["dog", "church"])
    steered = SteeredModel(request, asked)
    one = {"cook": torch.tensor([1.0, -1.0], dtype=torch.float64)}
    slopes = steered.begin(one)
    edit, twice = steered.edit(one, True), steered.edit({"cook": 2 * one["cook"]})
    assert slopes["cook"] > 0 and len(edit.maps) == 2 and {"pooled"} <= {*edit.record["figures"]}
    for key, map in edit.maps.items():
        moved = map.dense() - eye(map.width)
        assert float(moved.norm()) > 0
        np.testing.assert_allclose(twice.maps[key].dense() - eye(map.width), 2 * moved, atol=1e-9)


def test_attributes_that_move_no_row_are_refused() -> None:
    behind = [Attribute(tone, f"{{}} with {tone} skin", (tone,), 0.5) for tone in ("dark", "light")]
    options = Options("uce", protect="prior", tokens="last")
    steered = SteeredModel(Request(open_model("emoji"), options, ["cook"], ["both"], (), ["dog"]), behind)
    with pytest.raises(EditkitError, match="concept 'cook': no attribute moves the rows of --tokens last apart"):
        steered.begin({"cook": torch.tensor([1.0, -1.0], dtype=torch.float64)})


def test_attributes_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text(
        '[[attribute]]\nname = "dark"\nphrase = "{} with dark skin"\nratio = 0.25\n'
        '[[attribute]]\nname = "else"\nseen = ["man", "light"]\nratio = 0.75\n'
    )
    dark, other = attributes_of(read_attributes(path), None, ["cook"])
    assert (
        dark == Attribute("dark", "{} with dark skin", ("dark",), 0.25) and dark.prompt("cook") == "cook with dark skin"
    )
    assert other == Attribute("else", "else {}", ("man", "light"), 0.75)


def test_all_of_an_attribute_must_be_seen() -> None:
    seen = Detection(("cook",), (0.9,), attributes={"gender": "man", "tone": "dark"})
    assert shows(seen, Attribute.of("man, dark")) and shows(seen, Attribute.of("Man"))
    assert not shows(seen, Attribute.of("man, light"))
    by_label = Detection(("man", "woman"), (0.9, 0.1))
    assert shows(by_label, Attribute.of("man")) and not shows(by_label, Attribute.of("woman"))


@pytest.mark.parametrize(
    ("concepts", "attributes", "more", "message"),
    [
        (["cook"], ["man"], {}, "expected two or more to balance between, got man"),
        (["cook"], [], {}, "expected two or more to balance between, got none"),
        (["cook"], ["man", "Man"], {}, "named twice"),
        (["cook", "man"], ["man", "woman"], {}, "man: also given as a concept"),
        (["cook"], ["man", "woman"], {"ratios": [0.5]}, "expected one for each of 2 attributes"),
        (["cook"], ["man", "woman"], {"ratios": [0.5, 0.4]}, "shares that sum to 1, got 0.9"),
        (["cook"], ["man", "woman"], {"ratios": [1.0, 0.0]}, "above 0 and below 1, got 1 for man"),
        (["cook"], ["man", Attribute("woman", "woman {}", ("woman",), 0.5)], {}, "'man': has no ratio"),
        (["cook"], ["man", "women"], {}, "never learned the word 'women'"),
        (["cook"], ["man", "picture"], {}, "detector emoji-judge never says 'picture'"),
        (["cook"], ["man", "person"], {}, "it says noto, twemoji"),
        (["chruch"], ["man", "woman"], {}, "did you mean church"),
        ([], ["man", "woman"], {}, "no concept given"),
        (["cook"], ["man", "woman"], {"loop": "magic"}, "--loop: expected one of secant, published"),
        (["cook"], ["man", "woman"], {"pictures": (64, 16)}, "--pictures: expected numbers"),
        (["cook"], ["man", "woman"], {"max_diff": 0.0}, "--max-diff"),
        (["cook"], ["man", "woman"], {"certify": 0}, "--certify: expected at least 1"),
        (["cook"], ["man", "woman"], {"template": "a person"}, "expected one '{}'"),
        (["cook"], ["man", "woman"], {"options": Options("rece")}, "expected options of uce"),
        (["cook"], ["man", "woman"], {"options": Options("uce", hard=True)}, "expected options of uce"),
        (["cook"], ["man", "woman"], {"detector": "clip-zero-shot"}, "clip"),
    ],
)
def test_bad_input_is_named_before_anything_is_drawn(
    concepts: list[str], attributes: list[str | Attribute], more: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(EditkitError) as error:
        editkit.debias("emoji", concepts, attributes, kept=tmp_path / "k", **more)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "k").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("attribute = 3", "expected [[attribute]] tables"),
        ("[[attribute]]\nphrase = 'old {}'", "attribute 1: expected a name"),
        ("[[attribute]]\nname = 'old'\nphrase = 'old'", "expected a phrase with one '{}'"),
        ("[[attribute]]\nname = 'old'\nweight = 1", "has no 'weight'; expected name, ratio, phrase, seen"),
        ("[[attribute]]\nname = 'old'\nseen = 3", "expected in `seen` what the judge says"),
        ("[[attribute]]\nname = 'old'\nratio = 'half'", "expected a number as ratio"),
        ("[[attribute", "is no TOML file"),
    ],
)
def test_a_file_of_attributes_that_is_wrong_is_named(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text(text)
    with pytest.raises(EditkitError) as error:
        read_attributes(path)
    assert message in str(error.value) and str(path) in str(error.value)
    with pytest.raises(EditkitError, match="cannot be read"):
        read_attributes(tmp_path / "none.toml")


def test_the_nearest_that_a_judge_says_is_named() -> None:
    class Judge:
        name, labels = "ages", ("young", "middle-aged", "old")

        def detect(self, pictures: Sequence[Any]) -> list[Detection]:
            return []

    check_judge(Judge(), [Attribute.of("young"), Attribute.of("old")])
    with pytest.raises(EditkitError, match="never says 'yong'; did you mean young"):
        check_judge(Judge(), [Attribute.of("yong"), Attribute.of("old")])
