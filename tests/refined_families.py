"""Tiny models with several text streams, and what diffusers itself says of their networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor

from editkit.drawing.pipelines import open_denoiser
from editkit.drawing.pipelines.denoiser import Condition
from editkit.drawing.sampling import parse_size
from editkit.model.checkpoints.source import find
from editkit.model.editable import open_model
from editkit.tuning.denoisers import Denoisers
from editkit.tuning.latents import Points
from editkit.tuning.objectives import OBJECTIVES
from editkit.tuning.options import RefineOptions
from editkit.tuning.parameters import Parameters, choose
from editkit.tuning.passes import Passes, evenly
from editkit.tuning.prompts import encode_prompts
from editkit.tuning.refine import refine
from tests import tiny_pipelines

LAMB, ETA = 0.7, 1.5
SMALL: dict[str, Any] = {"batch": 2, "k": 2, "sampling_steps": 3, "steps": 2, "rate": 1e-3, "mixed_precision": "no"}


@dataclass(frozen=True)
class Stock:
    """A family as diffusers runs it.

    Attributes:
        said: what a network of the pipeline says of one row of latents at a step, for a prompt.
        size: what its pictures are trained at, where that is not the model's own.
    """

    said: Callable[[Any, Any, Tensor, Tensor, str], Tensor]
    size: str | None = None

    @property
    def small(self) -> dict[str, Any]:
        return SMALL if self.size is None else {**SMALL, "size": self.size}

    @property
    def pixels(self) -> tuple[int, int] | None:
        return None if self.size is None else parse_size(self.size)


def of_sdxl(pipe: Any, network: Any, z: Tensor, t: Tensor, prompt: str) -> Tensor:
    text, _, pooled, _ = pipe.encode_prompt(prompt, do_classifier_free_guidance=False)
    side = float(z.shape[-1] * pipe.vae_scale_factor)
    sizes = torch.tensor([[side, side, 0, 0, side, side]], dtype=z.dtype)
    added = {"text_embeds": pooled.to(z), "time_ids": sizes}
    return network(z, t, encoder_hidden_states=text.to(z), added_cond_kwargs=added).sample


def of_sd3(pipe: Any, network: Any, z: Tensor, t: Tensor, prompt: str) -> Tensor:
    text, _, pooled, _ = pipe.encode_prompt(prompt, None, None, do_classifier_free_guidance=False)
    how = {"encoder_hidden_states": text.to(z), "pooled_projections": pooled.to(z)}
    return network(hidden_states=z, timestep=t, **how).sample


def of_flux(pipe: Any, network: Any, z: Tensor, t: Tensor, prompt: str) -> Tensor:
    text, pooled, txt_ids = pipe.encode_prompt(prompt, None)
    _, channels, height, width = z.shape
    said = network(
        hidden_states=pipe._pack_latents(z, 1, channels, height, width),
        timestep=t.to(z) / 1000,
        guidance=torch.ones(1),
        encoder_hidden_states=text.to(z),
        pooled_projections=pooled.to(z),
        txt_ids=txt_ids.float(),
        img_ids=pipe._prepare_latent_image_ids(1, height // 2, width // 2, "cpu", z.dtype),
    ).sample
    return pipe._unpack_latents(said, height, width, 1)


FAMILIES = {"sdxl": Stock(of_sdxl), "sd3": Stock(of_sd3), "flux1": Stock(of_flux, "16x16")}


def saved(name: str, folder: Path) -> Path:
    """A tiny model of the family; of FLUX.1 it is dev, which reads its guidance."""
    if name != "flux1":
        return tiny_pipelines.save(name, folder)
    pipe = stock(tiny_pipelines.save(name, folder / "schnell"))
    torch.manual_seed(1)
    pipe.transformer = diffusers.FluxTransformer2DModel.from_config(
        {**pipe.transformer.config, "guidance_embeds": True}
    )
    pipe.save_pretrained(folder / "dev")
    return folder / "dev"


def stock(folder: Path) -> Any:
    pipe: Any = diffusers.DiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def run_of(name: str, folder: Path, out: Path, start: Any = None, **options: Any) -> Any:
    concepts = () if start is not None else ("church", "dog")
    given = RefineOptions.of(**{**FAMILIES[name].small, **options})
    words = ["mosque", "photo", "picture"]
    resume = out.exists()
    return refine(open_model(folder), out, concepts, start, (), given, words, "cpu", resume)


class Setting:
    """A model in float64, but for its text encoders, whose student has moved away from its teacher."""

    def __init__(self, name: str, folder: Path, param: str = "full") -> None:
        self.pipe, self.stock, self.name = stock(folder), FAMILIES[name], name
        self.denoiser = open_denoiser(folder)
        network = self.denoiser.network.double()
        self.networks = Denoisers(network, self.denoiser.predict)
        self.untrained = stock(folder).components[self.denoiser.component].double()  # pyright: ignore
        family = find(folder).family
        if Parameters.parse(param).rank is None:
            self.networks.keep_teacher()
        torch.manual_seed(3)
        self.trained = choose(network, Parameters.parse(param), family)
        made = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for weight in self.trained.values():
                weight += 0.05 * torch.randn(weight.shape, generator=made).to(weight)
        self.network = network
        prompts = encode_prompts(self.denoiser, ["church", "mosque"], ["", "dog"], [["photo", "dog"]] * 2, ["a {}"])
        self.prompts = replace(prompts, known=in_float64(prompts.known), away=in_float64(prompts.away))
        config = self.denoiser.latent_shape(self.stock.pixels)
        self.z = torch.randn(3, *config, generator=made, dtype=torch.float64)
        self.t = torch.tensor([10.0, 500.0, 999.0])
        self.concept, self.template = torch.tensor([0, 1, 0]), torch.tensor([0, 0, 0])
        self.texts = {
            "e": ["a church", "a mosque", "a church"], "n": ["", "a dog", ""], "a": ["a photo", "a dog", "a dog"],
        }  # fmt: skip

    def said(self, network: Any, key: str) -> Tensor:
        """Row by row, as the stock pipeline asks."""
        rows = zip(self.z.split(1), self.t.split(1), self.texts[key], strict=True)
        return torch.cat([self.stock.said(self.pipe, network, z, t, text) for z, t, text in rows])

    def package(self, objective: str) -> Tensor:
        """As the trainer calls it."""
        passes = Passes(OBJECTIVES[objective], self.networks, self.prompts, LAMB, ETA, evenly)
        points = passes.with_targets(Points(self.z, self.t, self.concept, self.template))
        searched = self.prompts.a(self.concept, torch.tensor([0, 1, 1]), self.template)
        return passes.terms(points, searched if objective == "ap" else None).loss(LAMB)

    def reference(self, objective: str) -> Tensor:
        """The equations."""
        with torch.no_grad():
            e, n, a = (self.said(self.untrained, key) for key in "ena")
        if objective == "esd":
            return squares(self.said(self.network, "e"), n - ETA * (e - n))
        return squares(self.said(self.network, "e"), n) + LAMB * squares(self.said(self.network, "a"), a)


def in_float64(condition: Condition) -> Condition:
    pooled = None if condition.pooled is None else condition.pooled.double()
    return replace(condition, text=condition.text.double(), pooled=pooled)


def squares(first: Tensor, other: Tensor) -> Tensor:
    return torch.stack([((first[i] - other[i]) ** 2).sum() for i in range(len(first))])


def probe(s: Any, pipe: Any, network: Any, shape: tuple[int, ...]) -> Tensor:
    z = torch.randn(1, *shape, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        return s.said(pipe, network, z, torch.tensor([400.0]), "a church")
