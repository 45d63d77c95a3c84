"""Train the judge on the icons, strongly augmented, and on generations of the unedited model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from editkit.concepts.templates import fill
from editkit.drawing.pipelines import open_denoiser
from editkit.drawing.sampler import Sampling, draw, jobs
from editkit.emoji.catalogue import GENDERS, catalogue, subjects
from editkit.emoji.icons import render_others
from editkit.emoji.judge import NONE, JudgeNet
from editkit.emoji.loop import train, warm_up_flat_down
from editkit.emoji.pictures import Composer
from editkit.model.checkpoints.source import Source
from editkit.seeds import seeded

IGNORED = -100


def judge_labels() -> dict[str, list[str]]:
    known = catalogue()
    return {
        "concept": [*known.concepts, NONE],
        "style": list(known.styles),
        "background": list(known.backgrounds),
        "gender": list(GENDERS),
        "tone": list(known.tones),
    }


@dataclass(frozen=True)
class LabelledPictures:
    """Pictures `(b, 3, 64, 64)` in [-1, 1] and a label per head, `IGNORED` where a head has nothing to say."""

    pictures: Tensor
    labels: dict[str, Tensor]


def train_judge(
    composer: Composer,
    folder: Path,
    steps: int,
    generations: LabelledPictures | None = None,
    batch: int = 96,
    rate: float = 2e-3,
    seed: int = 0,
    name: str = "judge",
    start: JudgeNet | None = None,
) -> JudgeNet:
    """Resumes from `folder/{name}.pt`, begins with the weights of `start`. A quarter of each batch shows nothing
    known; with `generations`, a sixth of it are those."""
    torch.manual_seed(seed)
    net = JudgeNet(judge_labels()).to(composer.device, memory_format=torch.channels_last)  # pyright: ignore
    if start is not None:
        net.load_state_dict(start.state_dict())
    optimizer = torch.optim.AdamW(net.parameters(), rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: warm_up_flat_down(i, steps, 100, 0.3))
    examples = JudgeExamples(composer, Composer(render_others(folder), composer.device), generations)

    def step(i: int) -> Tensor:
        shown = examples.batch(batch, seeded(seed, i))
        with torch.autocast(composer.device, torch.bfloat16):
            scores = net(shown.pictures.contiguous(memory_format=torch.channels_last))
        loss = torch.stack([_head_loss(scores[head], shown.labels[head].to(composer.device)) for head in scores]).sum()
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        return loss.detach()

    train(name, steps, step, {"model": net, "optimizer": optimizer, "schedule": schedule}, folder)
    return net.eval()


def write_judge(net: JudgeNet, path: Path) -> None:
    tensors = {name: value.half().contiguous().cpu() for name, value in net.state_dict().items()}
    save_file(tensors, path, {"labels": json.dumps(judge_labels())})


@torch.no_grad()
def accuracy(net: JudgeNet, composer: Composer, pictures: int = 2048, seed: int = 7_777) -> dict[str, float]:
    """Share of right answers per head on clean held-out compositions: moves and backgrounds, no distortion."""
    right: dict[str, list[Tensor]] = {}
    table = label_table()
    for start in range(0, pictures, 128):
        which, backgrounds, shifts = composer.random(128, seeded(seed, start))
        scores = net(composer(which, backgrounds, shifts))
        labels = {head: rows[which] for head, rows in table.items()} | {"background": backgrounds}
        for head, wanted in labels.items():
            asked = wanted != IGNORED
            right.setdefault(head, []).append((scores[head].cpu().argmax(1) == wanted)[asked])
    return {head: float(torch.cat(parts).float().mean()) for head, parts in right.items()}


def label_table() -> dict[str, Tensor]:
    """Label of every drawing under every head but the background."""
    labels = judge_labels()

    def number(head: str, name: str | None) -> int:
        return IGNORED if name is None else labels[head].index(name)

    drawn = subjects()
    return {
        head: torch.tensor([number(head, getattr(subject, head)) for subject in drawn])
        for head in ("concept", "style", "gender", "tone")
    }


class JudgeExamples:
    """Augmented icons, pictures of nothing known, and generations."""

    def __init__(self, composer: Composer, others: Composer, generations: LabelledPictures | None) -> None:
        self.composer, self.others, self.generations = composer, others, generations
        self.table = label_table()
        self.none = judge_labels()["concept"].index(NONE)

    def batch(self, size: int, generator: torch.Generator) -> LabelledPictures:
        drawn = 0 if self.generations is None else size // 6
        unknown = size // 4
        parts = [self._icons(size - unknown - drawn, generator), self._nothing(unknown, generator)]
        joined = LabelledPictures(
            augment(torch.cat([part.pictures for part in parts]), generator),
            {head: torch.cat([part.labels[head] for part in parts]) for head in parts[0].labels},
        )
        if self.generations is None:
            return joined
        which = torch.randint(len(self.generations.pictures), (drawn,), generator=generator)
        return LabelledPictures(
            torch.cat([joined.pictures, self.generations.pictures[which].to(joined.pictures)]),
            {head: torch.cat([rows, self.generations.labels[head][which]]) for head, rows in joined.labels.items()},
        )

    def _icons(self, size: int, generator: torch.Generator) -> LabelledPictures:
        which, backgrounds, shifts = self.composer.random(size, generator)
        labels = {head: rows[which] for head, rows in self.table.items()} | {"background": backgrounds}
        return LabelledPictures(self.composer(which, backgrounds, shifts), labels)

    def _nothing(self, size: int, generator: torch.Generator) -> LabelledPictures:
        """Icons outside the set, blends of two icons, shuffled tiles, plain backgrounds, noise: in equal parts."""
        share = max(1, size // 5)
        _, backgrounds, _ = self.composer.random(size, generator)
        others = self.others(*self.others.random(size - 4 * share, generator))
        first, second = (self._icons(share, generator).pictures for _ in range(2))
        mix = 0.35 + 0.3 * torch.rand(share, 1, 1, 1, generator=generator).to(first)
        tiles = _shuffle_tiles(self._icons(share, generator).pictures, generator)
        plain = self.composer.plain(backgrounds[:share])
        coarse = torch.randn(share, 3, 8, 8, generator=generator).to(first)
        noise = F.interpolate(coarse, 64, mode="bicubic").clamp(-1, 1)
        pictures = torch.cat([others, mix * first + (1 - mix) * second, tiles, plain, noise])
        ignored = torch.full((size,), IGNORED)
        labels = {head: ignored for head in (*self.table, "background")}
        return LabelledPictures(pictures, labels | {"concept": torch.full((size,), self.none)})


def augment(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Turn, scale, move, blur, tint, add noise: each picture differently, all of them mildly or more."""
    b = len(pictures)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return (low + (high - low) * torch.rand(b, *shape, generator=generator)).to(pictures)

    angle, size = uniform(-0.2, 0.2), uniform(0.85, 1.2)
    move = uniform(-0.1, 0.1, 2)
    cos, sin = angle.cos() * size, angle.sin() * size
    matrix = torch.stack([torch.stack([cos, -sin, move[:, 0]], 1), torch.stack([sin, cos, move[:, 1]], 1)], 1)
    grid = F.affine_grid(matrix, list(pictures.shape), align_corners=False)
    turned = F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
    blurred = F.interpolate(F.avg_pool2d(turned, 2), 64, mode="bilinear")
    softness = uniform(0, 1, 1, 1, 1) ** 2
    soft = softness * blurred + (1 - softness) * turned
    tinted = soft * uniform(0.85, 1.15, 3, 1, 1) + uniform(-0.08, 0.08, 3, 1, 1)
    grain = torch.randn(pictures.shape, generator=generator).to(pictures) * uniform(0, 0.12, 1, 1, 1)
    return (tinted + grain).clamp(-1, 1)


def _shuffle_tiles(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Each picture cut into 4×4 tiles of 16 pixels, in random order."""
    b = len(pictures)
    tiles = pictures.unfold(2, 16, 16).unfold(3, 16, 16).reshape(b, 3, 16, 16, 16)
    order = torch.stack([torch.randperm(16, generator=generator) for _ in range(b)]).to(tiles.device)
    mixed = torch.gather(tiles, 2, order[:, None, :, None, None].expand_as(tiles))
    return mixed.view(b, 3, 4, 4, 16, 16).permute(0, 1, 2, 4, 3, 5).reshape(b, 3, 64, 64)


def _head_loss(scores: Tensor, labels: Tensor) -> Tensor:
    if bool((labels == IGNORED).all()):
        return scores.float().sum() * 0
    return F.cross_entropy(scores.float(), labels, ignore_index=IGNORED, label_smoothing=0.05)


def unedited_generations(source: Source, seeds: range = range(1000, 1003)) -> LabelledPictures:
    """Pictures that the unedited model draws of "a X in the style of S", with seeds that no evaluation uses.

    Not every generation shows what it was asked for. Those that a judge trained on icons alone does not recognise
    among its first three would teach the judge to excuse the model: see `keep_recognised`.
    """
    known = catalogue()
    labels = judge_labels()
    prompts = {
        f"{fill('a {}', name)} in the style of {style}": (name, style)
        for name in known.concepts
        for style in known.styles
    }
    drawn = list(draw(open_denoiser(source), jobs(list(prompts), seeds), sampling=Sampling.for_model(source)))
    asked = [prompts[job.prompt] for job, _ in drawn]
    ignored = torch.full((len(drawn),), IGNORED)
    rows = {head: ignored for head in labels} | {
        "concept": torch.tensor([labels["concept"].index(name) for name, _ in asked]),
        "style": torch.tensor([labels["style"].index(style) for _, style in asked]),
    }
    stacked = np.stack([np.asarray(picture) for _, picture in drawn])
    return LabelledPictures(torch.from_numpy(stacked).permute(0, 3, 1, 2).float() / 127.5 - 1, rows)


@torch.no_grad()
def keep_recognised(net: JudgeNet, generations: LabelledPictures, k: int = 3) -> LabelledPictures:
    """The generations whose concept `net` sees among its first `k`."""
    parts = [net(part)["concept"].topk(k).indices for part in generations.pictures.split(256)]
    keep = (torch.cat(parts) == generations.labels["concept"][:, None]).any(1)
    return LabelledPictures(generations.pictures[keep], {head: rows[keep] for head, rows in generations.labels.items()})
