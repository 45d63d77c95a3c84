"""MACE's loss against attention that is written out, its masks, its runs, and the fusion of what they made."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor

import editkit
from editkit.drawing.pipelines.denoiser import Condition
from editkit.drawing.sampler import pictures_of
from editkit.embeddings.learned import Learned
from editkit.errors import EditkitError
from editkit.model.editable import EditableModel, open_model
from editkit.tuning.attended_masks import LOOKS, attended_masks
from editkit.tuning.latents import Points
from editkit.tuning.masks import Shown
from editkit.tuning.memory import plan_memory
from editkit.tuning.objectives import OBJECTIVES
from editkit.tuning.options import RefineOptions
from editkit.tuning.passes import Passes, evenly
from editkit.tuning.prompts import Prompts
from editkit.tuning.refine import refine
from editkit.tuning.request import StageRequest
from editkit.tuning.setup import prepare
from editkit.variants.tuned_file import load_tuned
from tests.cases import randn
from tests.cli import run
from tests.killed import killed_at
from tests.pictures_of_emoji import noise
from tests.test_fmn import names_of
from tests.test_refine_losses import denoisers
from tests.tiny_pipelines import save

TEXT = randn(2, 2, 5, 6)
TOKENS = torch.tensor([[0, 1, 1, 0, 0], [0, 0, 1, 0, 0]]).bool()
CONCEPT = torch.tensor([0, 1, 0])
T = torch.tensor([10, 500, 999])
SMALL: dict[str, Any] = {"sampling_steps": 2, "trajectories": 2, "batch": 2, "rate": 1e-2, "mixed_precision": "no"}


def unet() -> Any:
    """It attends to the prompt from 8x4 latents and from 4x2."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8, in_channels=2, out_channels=2, down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"), mid_block_type=None, block_out_channels=(8, 8),
        layers_per_block=1, cross_attention_dim=6, attention_head_dim=4, norm_num_groups=4,
    ).double()  # fmt: skip


def passes_of(network: Any) -> Passes:
    prompts = Prompts(
        Condition(TEXT), torch.tensor([[0], [1]]), torch.tensor([[0], [1]]), torch.zeros(2, 0, 1), (),
        Condition(TEXT[:1]), None, TOKENS[:, None],
    )  # fmt: skip
    return Passes(OBJECTIVES["mace"], denoisers(network), prompts, 1.0, 1.0, evenly, None, names_of(network))


class Naive:
    """diffusers' attention to a prompt, a row and a head at a time; what it pays to tokens is kept."""

    def __init__(self, into: list[Tensor]) -> None:
        self.into = into

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any) -> Any:
        text = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = attn.to_q(hidden_states), attn.to_k(text), attn.to_v(text)
        size = query.shape[-1] // attn.heads
        rows, kept = [], []
        for n in range(len(query)):
            heads, paid = [], []
            for h in range(attn.heads):
                own = slice(h * size, (h + 1) * size)
                q, k, v = query[n][:, own], key[n][:, own], value[n][:, own]
                scores = torch.exp((q[:, None] * k[None]).sum(-1) / math.sqrt(size))
                shares = scores / scores.sum(1, keepdim=True)
                heads.append(shares @ v)
                paid.append(shares)
            rows.append(torch.cat(heads, 1))
            kept.append(torch.stack(paid))
        if encoder_hidden_states is not None:
            self.into.append(torch.stack(kept))
        return attn.to_out[1](attn.to_out[0](torch.stack(rows)))


def area(mask: Tensor, h: int, w: int) -> Tensor:
    """The mean of every block of `mask` `(H, W)`, `(h · w,)`."""
    H, W = mask.shape[0] // h, mask.shape[1] // w
    return torch.stack([mask[y * H : (y + 1) * H, x * W : (x + 1) * W].mean() for y in range(h) for x in range(w)])


def naive(network: Any, z: Tensor, t: Tensor, concept: Tensor) -> list[Tensor]:
    kept: list[Tensor] = []
    for module in network.modules():
        if hasattr(module, "set_processor"):
            module.set_processor(Naive(kept))
    network(z, t, TEXT[concept])
    return kept


@pytest.mark.parametrize("checkpointed", [False, True])
def test_the_loss_and_its_gradients_are_those_of_attention_written_out(checkpointed: bool) -> None:
    mine, theirs = unet(), unet()
    if checkpointed:
        mine.train().enable_gradient_checkpointing()
    z, mask = randn(1, 3, 2, 8, 4), randn(3, 3, 1, 8, 4).sigmoid()
    loss = passes_of(mine).terms(Points(z, T, CONCEPT, 0 * CONCEPT, mask=mask), None).erase
    kept = naive(theirs, z, T, CONCEPT)
    assert sorted({layer.shape[2] for layer in kept}) == [8, 32]
    expected = []
    for n, c in enumerate(CONCEPT):
        parts = []
        for layer in kept:
            h = 8 if layer.shape[2] == 32 else 4
            mean = torch.stack([layer[n][head] / layer.shape[1] for head in range(layer.shape[1])]).sum(0)
            own = area(mask[n, 0], h, h // 2)
            parts += [(mean[:, j] * own).square().sum() for j in range(5) if TOKENS[c, j]]
        expected.append(sum(parts))
    wanted = torch.stack(expected)
    assert torch.allclose(loss, wanted, rtol=1e-9) and float(loss.detach().min()) > 0
    loss.sum().backward()
    wanted.sum().backward()
    moved = 0
    for (name, weight), other in zip(mine.named_parameters(), theirs.parameters(), strict=True):
        given, right = (torch.zeros(1) if each.grad is None else each.grad for each in (weight, other))
        assert torch.allclose(given.double(), right.double(), rtol=1e-6, atol=1e-11), name
        moved += bool(given.abs().sum() > 0) and "attn2.to_k" in name
    assert moved == len(kept)


@pytest.mark.parametrize("rows", [1, 3])
def test_a_mask_is_where_the_teacher_attends_more_than_in_the_mean_and_has_no_gradient(rows: int) -> None:
    from diffusers import DDIMScheduler

    network, scheduler = unet(), DDIMScheduler()
    clean = Points(randn(1, 3, 2, 8, 4), 0 * CONCEPT, CONCEPT, 0 * CONCEPT)
    sampler: Any = SimpleNamespace(scheduler=scheduler)
    seed = torch.Generator().manual_seed(5)
    mask = attended_masks(passes_of(network), sampler, clean, seed, rows)
    assert all(weight.requires_grad for weight in network.parameters()) and not mask.requires_grad
    seed, total = torch.Generator().manual_seed(5), torch.zeros(3, 1, 8, 4, dtype=torch.float64)
    for look in LOOKS:
        kept_share = scheduler.alphas_cumprod[look].double()
        noise = torch.randn(clean.z.shape, generator=seed).double()
        z = kept_share.sqrt() * clean.z + (1 - kept_share).sqrt() * noise
        kept = naive(network, z, torch.full((3,), look), CONCEPT)
        for layer in kept:
            h = 8 if layer.shape[2] == 32 else 4
            paid = torch.stack([layer[n][:, :, TOKENS[c]].sum((0, 2)) for n, c in enumerate(CONCEPT)])
            grid = (paid / paid.mean(1, keepdim=True)).view(3, 1, h, h // 2)
            total += torch.nn.functional.interpolate(grid, (8, 4), mode="bilinear") / len(kept) / len(LOOKS)
    assert torch.equal(mask, (total >= 1).double())
    assert all(0 < float(own.sum()) < own.numel() for own in mask)


@pytest.fixture(scope="module")
def model(tiny_sd: Path) -> EditableModel:
    return open_model(tiny_sd)


def test_concepts_are_trained_apart_and_fused_and_a_killed_run_goes_on_to_the_same_bits(
    model: EditableModel, tmp_path: Path
) -> None:
    options = RefineOptions.of("mace", model.profile, **SMALL, steps=3, save_every=2)
    words, few = ["church", "police officer"], ["dog", "house"]
    both = refine(model, tmp_path / "a", words, options=options, device="cpu", vocabulary=few)
    with killed_at(2):
        refine(model, tmp_path / "b", words, options=options, device="cpu", vocabulary=few)
    state = torch.load(tmp_path / "b" / "church" / "checkpoint.pt", weights_only=True)
    assert state["step"] == 2 and {*state["bank"]["mask"].unique().tolist()} == {0, 1}
    again = refine(model, tmp_path / "b", words, options=options, device="cpu", vocabulary=few, resume=True)
    parts = [editkit.load_edit(tmp_path / "a" / name) for name in ("church", "police-officer")]
    for name, change in both.factors.items():
        assert torch.equal(change.up, again.factors[name].up) and torch.equal(change.down, again.factors[name].down)
    assert {len(change.down) for change in both.factors.values()} == {2}  # a rank for each concept
    fused = editkit.fuse_tuned([tmp_path / "a" / "police-officer", tmp_path / "a" / "church"], model, vocabulary=few)
    assert all(torch.equal(change.down, fused.factors[name].down) for name, change in both.factors.items())
    assert [part.record["method"] for part in parts] == ["mace", "mace"]
    assert all(name.endswith(("attn2.to_k.weight", "attn2.to_v.weight")) for name in both.names)


def test_a_users_pictures_and_masks_are_what_is_trained_on(model: EditableModel, tmp_path: Path) -> None:
    mask = Image.new("L", (64, 64), 255)
    ImageDraw.Draw(mask).rectangle((0, 0, 31, 63), fill=0)
    shown = Shown.given(noise(3, (64, 64)), [mask] * 3)
    options = RefineOptions.of("mace", model.profile, **SMALL, steps=1)
    setup = prepare(StageRequest(model, ["church"], None, (), options, device="cpu", pictures=[shown]), tmp_path)
    setup.trainer.batches.draw(0)
    bank = setup.trainer.batches.bank
    assert bank is not None and bank.mask is not None and bank.mask.shape == (3, 1, 8, 8)
    assert bool((bank.mask[..., :4] == 1).all()) and bool((bank.mask[..., 4:] == 0).all())
    points = setup.trainer.batches.points(0, 0)
    assert points.mask is not None and len(points.mask) == 2
    made = refine(model, tmp_path / "run", ["church"], options=options, device="cpu", shown=[shown])
    assert made.record["shown"]["church"] == {"count": 3, "masks": True, "sha256": shown.sha256}


def test_what_cannot_be_is_said_before_anything_is_trained(model: EditableModel, tmp_path: Path) -> None:
    shown = Shown.given(noise(1))
    half = Image.new("L", (64, 64), 255)
    half.putpixel((0, 0), 0)
    masked = Shown.given(noise(1), [half])

    def asked(objective: str, pictures: list[Shown], *concepts: str) -> StageRequest:
        return StageRequest(model, concepts, None, (), RefineOptions(objective), pictures=pictures)

    with pytest.raises(
        EditkitError, match="--pictures: --objective esd reads none of the concept; use --objective mace"
    ):
        asked("esd", [shown], "dog")
    with pytest.raises(EditkitError, match="--masks: --objective fmn reads whole pictures"):
        asked("fmn", [masked], "dog")
    with pytest.raises(EditkitError, match="--pictures: 2 folders but 3 concepts; give one for each"):
        asked("mace", [shown, shown], "dog", "boat", "church")
    learned = [Learned("<x>", "boat", ((0.1 * torch.ones(1, 256),),))]
    with pytest.raises(EditkitError, match="fuses concepts by their words, which 'boat' has not; train it alone"):
        StageRequest(model, ["dog"], None, (), RefineOptions("mace"), learned=learned)
    with pytest.raises(
        EditkitError, match="--objective mace: reads a UNet's attention to the prompt, which sd3 has not"
    ):
        StageRequest(open_model(save("sd3", tmp_path / "sd3")), ["dog"], None, (), RefineOptions("mace"))


def test_a_plan_has_room_for_the_mask_and_for_one_concept(model: EditableModel) -> None:
    options = RefineOptions.of("mace", model.profile, **SMALL)
    assert (RefineOptions("mace").param, RefineOptions("mace").timesteps) == ("kv+lora:1", "focal")
    plan = plan_memory(model.source, options, "cpu", concepts=5)
    assert plan.parts["activations"] > 0
    assert plan.parts["prompts"] == 4 * 24 * 256 * (2 + 2 * len(model.profile.refine.templates))


def test_the_mask_is_where_the_bundled_model_drew_the_concept(tmp_path: Path) -> None:
    """Pictures have one plain background: what differs from their corners is the concept. A mask that knew nothing
    would meet a quarter of it."""
    emoji = open_model("emoji")
    options = RefineOptions.of("mace", emoji.profile, trajectories=4, sampling_steps=10, mixed_precision="no")
    setup = prepare(StageRequest(emoji, ["dog"], None, (), options, device="cpu"), tmp_path)
    setup.trainer.batches.draw(0)
    bank = setup.trainer.batches.bank
    assert bank is not None and bank.mask is not None
    seen = []
    for picture in pictures_of(setup.denoiser, bank.z):
        pixels = torch.from_numpy(np.array(picture)).float()
        corners = torch.stack([pixels[y, x] for y in (0, -1) for x in (0, -1)]).median(0).values
        seen.append(((pixels - corners).abs().amax(-1) > 30).float())
    drawn = torch.nn.functional.interpolate(torch.stack(seen)[:, None], (8, 8), mode="area") >= 0.5
    both, either = (drawn & (bank.mask > 0)).sum(), (drawn | (bank.mask > 0)).sum()
    assert float(both / either) > 0.5


def test_the_command_trains_and_fuses_a_start_with_the_bundled_model(tmp_path: Path) -> None:
    """The chain of MACE: the words around, a LoRA for each concept, their fusion; and that again one by one."""
    (tmp_path / "words.txt").write_text("dog\nhouse\n")
    few = ["--sampling-steps", "2", "--trajectories", "2", "--steps", "2", "--batch", "2", "--device", "cpu"]
    chosen = ["--concept", "church", "--concept", "trumpet"]
    around = ["--guide", "house", "--method", "uce", "--tokens", "around", "--out", "around.safetensors"]
    run("erase", *chosen, *around, "--vocabulary", "words.txt", cwd=tmp_path)
    words = ["--objective", "mace", *few, "--vocabulary", "words.txt"]
    said = run("refine", "around.safetensors", *words, "--out", "both", cwd=tmp_path)
    assert "fuse: church → nothing, trumpet → nothing" in said
    fuse = ["--fuse", "--vocabulary", "words.txt", "--out", "again.safetensors"]
    run("compose", "both/church", "both/trumpet", *fuse, cwd=tmp_path)
    together, again = load_tuned(tmp_path / "both"), load_tuned(tmp_path / "again.safetensors")
    assert all(torch.equal(change.down, again.factors[name].down) for name, change in together.factors.items())
    assert together.record["parts"][0]["start"]["options"]["tokens"] == "around"
    refused = run("refine", *words, "--concept", "dog", "--masks", ".", "--out", "x", cwd=tmp_path, code=1)
    assert "--masks: 1 folders for 0 of --pictures; give one for each" in refused
