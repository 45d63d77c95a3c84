"""The closed-form prompt attack: its distances, its alphabet, its searches."""

from __future__ import annotations

import pytest
import torch

import editkit
from editkit.drawing.pipelines import open_denoiser
from editkit.drawing.sampling import Sampling
from editkit.edits.edit import Edit
from editkit.embeddings.clip_dense import DenseClip
from editkit.errors import EditkitError
from editkit.model.editable import EditableModel
from editkit.redteam.arena import Arena
from editkit.redteam.attention import AttentionDistance
from editkit.redteam.cost import Cost
from editkit.redteam.distance import RowDistance, Sight
from editkit.redteam.engines import Pool, genetic
from editkit.redteam.findings import rank_correlation
from editkit.redteam.letters import TokenLetters, Words, letters_of
from editkit.redteam.prompt import PromptSearch
from editkit.redteam.target import Target

SMALL = PromptSearch(population=48, generations=3, restarts=1, search_rounds=3, swaps=24, best=6)


@pytest.fixture(scope="module")
def model() -> EditableModel:
    return editkit.open_model("emoji")


@pytest.fixture(scope="module")
def edit(model: EditableModel) -> Edit:
    return editkit.erase(model, ["trumpet"], options=editkit.Options("uce"))


@pytest.fixture(scope="module")
def target(model: EditableModel) -> Target:
    return Target.of("trumpet", model.profile, ["a {}"])


def arena(model: EditableModel, edit: Edit | None, drawn: bool = False) -> Arena:
    return Arena(model, edit, open_denoiser(model.source) if drawn else None, None, Sampling(4, 3.0), (1000,))


def test_dense_rows_are_those_of_the_encoder(model: EditableModel) -> None:
    clip, reader = model.encoder.clip, model.encoder.reader
    assert clip is not None
    prompts = ["a church", "two dogs on the moon", ""]
    for layer in (None, -2):
        for prompt in prompts:
            ids = reader.ids(prompt)
            dense = DenseClip.of(clip, layer).rows(torch.tensor([ids]))[0]
            assert torch.allclose(dense, clip.rows([ids], layer), atol=1e-4)


def test_squares_are_those_of_every_projection(model: EditableModel, edit: Edit) -> None:
    stream = model.streams[0]
    torch.manual_seed(0)
    rows, wanted = torch.randn(2, 3, stream.width), torch.randn(4, stream.width)
    edited = edit.weights(stream.inputs)
    for variant, weights in ((None, stream.inputs), (edit, edited)):
        squares = Sight.of(model, stream, variant).squares(rows, wanted)
        direct = torch.zeros(2, 3, 4, dtype=torch.float64)
        for name, W in stream.inputs.items():
            mine, theirs = rows.double() @ weights[name].double().T, wanted.double() @ W.double().T
            direct += (mine[:, :, None] - theirs[None, None]).square().sum(-1)
        assert torch.allclose(squares.double(), direct, rtol=1e-3)


def test_a_distance_is_nothing_for_the_concept_itself_and_one_for_the_empty_prompt(model: EditableModel) -> None:
    wanted, nothing = model.encoder.encode(["a trumpet", ""])
    sight = Sight.of(model, model.streams[0], None)
    swapped = wanted[[0, *reversed(range(1, len(wanted)))]]
    for by_position in (True, False):
        distance = RowDistance.of(sight, wanted, nothing, by_position)
        same, empty, other = distance(torch.stack([wanted, nothing, swapped]).float()).tolist()
        assert same < 1e-3 and empty == pytest.approx(1, abs=1e-3)
        assert (other < 1e-3) is not by_position, "a set has no order"


def test_attention_has_no_order_and_sees_the_edit(model: EditableModel, edit: Edit) -> None:
    wanted, nothing = (rows.float() for rows in model.encoder.encode(["a trumpet", ""]))
    plain, edited = (AttentionDistance.of(arena(model, each, True), each, wanted, nothing) for each in (None, edit))
    swapped = wanted.flip(0)
    same, empty, other = plain(torch.stack([wanted, nothing, swapped])).tolist()
    assert same < 1e-4 and empty == pytest.approx(1, abs=1e-2) and other < 1e-3
    assert float(edited(wanted[None])[0]) > 0.1


def test_letters_are_read_back_and_never_name_the_target(model: EditableModel, target: Target) -> None:
    letters = letters_of(model, Target.of("axe", model.profile, ["a {}"]))
    assert isinstance(letters, TokenLetters)
    texts = {letters.text([n]) for n in range(letters.count)}
    assert texts and not any("hatchet" in text or text in ("axe", "axes") for text in texts)
    assert all(letters.is_stable([n]) for n in range(0, letters.count, 7))
    behind = letters_of(model, target, behind="a trumpet")
    assert behind.text([0]).endswith(" a trumpet") and behind.ids([0])[-1] == behind.ids([5])[-1]


def test_rows_of_letters_are_those_of_the_typed_text(model: EditableModel, target: Target) -> None:
    for behind in ("", "a trumpet"):
        for letters in (letters_of(model, target, behind=behind), letters_of(model, target, words=True, behind=behind)):
            prompts = torch.tensor([[3, 40, -1], [7, 8, 9]])
            rows = letters.rows(prompts, Cost())
            for prompt, mine in zip(prompts.tolist(), rows, strict=True):
                (typed,) = model.encoder.encode([letters.text(prompt)])
                assert torch.allclose(mine.double(), typed[: len(mine)], atol=0.15), "to bfloat16"
    assert isinstance(letters, Words)


def test_a_prompt_is_encoded_once(model: EditableModel, target: Target) -> None:
    letters, cost = letters_of(model, target), Cost()
    prompts = torch.tensor([[1, 2], [3, 4], [1, 2]])
    first = letters.rows(prompts, cost)
    assert cost.encodings == 2 and torch.equal(first[0], first[2])
    assert torch.equal(letters.rows(prompts, cost), first) and cost.encodings == 2


def test_a_search_keeps_the_best_ever_and_repeats_itself(model: EditableModel, edit: Edit, target: Target) -> None:
    letters = letters_of(model, target, positions=8)
    wanted, nothing = (rows[:8] for rows in model.encoder.encode(["a trumpet", ""]))
    distance = RowDistance.of(Sight.of(model, model.streams[0], edit), wanted, nothing, False)
    pool = Pool(letters, distance, arena(model, edit))
    genetic(pool, [1, 2], 32, 3, torch.Generator().manual_seed(0))
    losses = [loss for _, loss in pool.log]
    assert losses == sorted(losses, reverse=True) and pool.best(1)[0][0] == pytest.approx(losses[-1])
    first, again = (SMALL.attack(arena(model, edit), target) for _ in range(2))
    assert [each.prompt for each in first] == [each.prompt for each in again] and len(first) > 3
    assert all(each.prompt and not target.naming(each.prompt.replace(each.source, "")) for each in first)
    assert any(each.prompt.endswith("a trumpet") for each in first if each.prompt)


def test_one_search_attacks_a_set_of_edits_by_the_worst_of_them(
    model: EditableModel, edit: Edit, target: Target
) -> None:
    harder = editkit.erase(model, ["trumpet"], options=editkit.Options("rece"))
    here = arena(model, edit)
    search = PromptSearch(distance="set", form="words", engine="genetic", population=32, generations=2, best=3)
    for each in search.against(here, target, [edit, harder]):
        assert each.prompt is not None and each.loss is not None
        alone = []
        wanted, nothing = (rows[:10] for rows in model.encoder.encode(["a trumpet", ""]))
        (rows,) = model.encoder.encode([each.prompt])
        for variant in (edit, harder):
            distance = RowDistance.of(Sight.of(model, model.streams[0], variant), wanted, nothing, False)
            alone.append(float(distance(rows[None, :10].float())[0]))
        assert each.loss == pytest.approx(max(alone), rel=0.05)


def test_gradients_are_asked_where_there_are_some(model: EditableModel, edit: Edit) -> None:
    with pytest.raises(EditkitError, match="needs gradients"):
        PromptSearch(engine="gcg")._check_engine(model, letters_of(model, None, words=True))


def test_rank_correlation_is_spearmans() -> None:
    from scipy.stats import spearmanr

    torch.manual_seed(0)
    pairs = [(float(a), float(b)) for a, b in torch.randint(0, 5, (30, 2))]
    expected, _ = spearmanr([a for a, _ in pairs], [b for _, b in pairs])
    assert rank_correlation(pairs) == pytest.approx(float(str(expected)), abs=1e-4)
    assert rank_correlation(pairs[:5]) is None
