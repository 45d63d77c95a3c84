"""Forget-Me-Not reads the student's attention: against diffusers' own, and in a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from editkit.drawing.pipelines.denoiser import Condition
from editkit.errors import EditkitError
from editkit.model.editable import EditableModel, open_model
from editkit.tuning import asked
from editkit.tuning.attention import attention_layers, recorded
from editkit.tuning.latents import Points
from editkit.tuning.memory import plan_memory
from editkit.tuning.objectives import OBJECTIVES
from editkit.tuning.options import RefineOptions
from editkit.tuning.passes import Passes, evenly
from editkit.tuning.prompts import Prompts
from editkit.tuning.refine import refine
from editkit.tuning.request import StageRequest
from tests.cases import randn
from tests.test_refine_losses import denoisers, tiny_unet
from tests.tiny_pipelines import save

ROWS = 3
TOKENS = torch.tensor([[0, 1, 1, 0, 0], [0, 0, 1, 0, 0]]).bool()
CONCEPT = torch.tensor([0, 1, 0])


class Recording:
    """diffusers' attention, written out with its own scores, which are kept."""

    def __init__(self, into: list[Tensor]) -> None:
        self.into = into

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any) -> Any:
        text = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            attn.head_to_batch_dim(project(rows))
            for project, rows in ((attn.to_q, hidden_states), (attn.to_k, text), (attn.to_v, text))
        )
        scores = attn.get_attention_scores(query, key)
        if encoder_hidden_states is not None:
            self.into.append(scores.unflatten(0, (len(hidden_states), -1)))
        return attn.to_out[1](attn.to_out[0](attn.batch_to_head_dim(scores @ value)))


def names_of(unet: Any) -> tuple[str, ...]:
    return attention_layers(name for name, _ in unet.named_parameters() if "attn2" in name)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_the_loss_and_its_gradients_are_those_of_diffusers_own_attention(checkpointed: bool) -> None:
    mine, theirs = tiny_unet(), tiny_unet()
    if checkpointed:
        mine.train().enable_gradient_checkpointing()
    z, t, text = randn(1, ROWS, 2, 4, 4), torch.tensor([10, 500, 999]), randn(2, 2, 5, 6)
    prompts = Prompts(
        Condition(text), torch.tensor([[0], [1]]), torch.tensor([[0], [1]]), torch.zeros(2, 0, 1), (),
        Condition(text[:1]), None, TOKENS[:, None],
    )  # fmt: skip
    passes = Passes(OBJECTIVES["fmn"], denoisers(mine), prompts, 1.0, 1.0, evenly, None, names_of(mine))
    loss = passes.terms(Points(z, t, CONCEPT, torch.zeros_like(CONCEPT)), None).erase
    kept: list[Tensor] = []
    theirs.set_attn_processor(Recording(kept))
    theirs(z, t, text[CONCEPT])
    assert len(kept) == len(names_of(theirs)) == 3
    expected = torch.stack(
        [torch.cat([layer[n][:, :, TOKENS[c]].flatten() for layer in kept]).norm() for n, c in enumerate(CONCEPT)]
    )
    assert torch.allclose(loss, expected, rtol=1e-9) and float(loss.detach().min()) > 0
    loss.sum().backward()
    expected.sum().backward()
    for (name, weight), other in zip(mine.named_parameters(), theirs.parameters(), strict=True):
        given, wanted = (torch.zeros(1) if each.grad is None else each.grad for each in (weight, other))
        assert torch.allclose(given.double(), wanted.double(), rtol=1e-6, atol=1e-10), name


def test_nothing_is_recorded_after_the_pass() -> None:
    unet = tiny_unet()
    with recorded(unet, names_of(unet)) as attended:
        pass
    unet(randn(1, 1, 2, 4, 4), torch.tensor([10]), randn(2, 1, 5, 6))
    assert not attended.queries and not attended.keys


@pytest.fixture(scope="module")
def model() -> EditableModel:
    return open_model("emoji")


def test_a_run_attends_less_to_the_concept_and_plans_its_memory(model: EditableModel, tmp_path: Path) -> None:
    given: dict[str, Any] = {"sampling_steps": 2, "mixed_precision": "no", "param": "xattn", "rate": 1e-3, "batch": 2}
    options = RefineOptions.of("fmn", model.profile, **given, steps=4, save_every=4)
    assert RefineOptions("fmn").steps == 35 and RefineOptions("fmn").param == "full"
    refine(model, tmp_path / "out", ["police officer"], options=options, device="cpu")
    losses = [float(line.split('"loss": ')[1].split(",")[0]) for line in (tmp_path / "out" / "log.jsonl").open()]
    assert losses[-1] < 0.9 * losses[0]
    assert plan_memory(model.source, options, "cpu").parts["activations"] > 0


def test_the_tokens_are_those_of_the_concept_in_every_template(model: EditableModel) -> None:
    request = StageRequest(model, ["police officer"], None, (), RefineOptions("fmn"))
    templates, encoder = model.profile.refine.templates, model.encoder
    known = Condition(torch.zeros(1, encoder.length, 4))
    none = torch.zeros(1)
    prompts = Prompts(known, torch.zeros(1, len(templates)), none, none, (), known)
    places = asked._places(request, prompts)
    alone = encoder.tokens("police officer")[1:-1]
    for n, template in enumerate(templates):
        ids = encoder.tokens(template.replace("{}", "police officer"))
        assert [ids[at] for at in torch.nonzero(places[0, n])[:, 0].tolist()] == alone


def test_a_family_without_such_attention_is_refused(tmp_path: Path) -> None:
    folder = save("sd3", tmp_path / "sd3")
    with pytest.raises(
        EditkitError, match="--objective fmn: reads a UNet's attention to the prompt, which sd3 has not"
    ):
        StageRequest(open_model(folder), ["dog"], None, (), RefineOptions("fmn"))
