"""How to draw: steps, guidance, scheduler, size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any, TypedDict

from editkit.errors import EditkitError
from editkit.model.checkpoints.source import Source
from editkit.model.placement import Placement

OWN = "own"
SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "euler": "EulerDiscreteScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    OWN: "",
}
"""Deterministic samplers of diffusers: a picture is a function of its noise. `OWN` is the one in the model's folder."""


STOCHASTIC = ("Ancestral", "LCM", "TCD", "SCM", "SDE", "DDPM", "KDPM2A", "Consistency")
"""Parts of names of schedulers of diffusers that draw noise at their steps."""
MOST_AT_ONCE, PIXELS_AT_ONCE = 8, 8 * 512 * 512
"""Pictures of a batch where nobody says how many: as many as suit a card of 24 GB."""
STOCK = {"steps": ("num_inference_steps",), "guidance": ("guidance_scale", "true_cfg_scale")}
"""Field of `Sampling` → the argument of a pipeline of diffusers, the first that has a number as its default. Their size
is the model's, as it is here."""


class Settings(TypedDict, total=False):
    """What a user may say of sampling; None or absent is what suits the model."""

    steps: int | None
    guidance: float | None
    negative: str | None
    scheduler: str | None
    size: tuple[int, int] | None
    batch: int | None
    true_cfg: float | None
    compile: bool | None
    dtype: str | None
    storage: str | None
    offload: str | None
    tile_vae: bool | None
    quantize: str | None


@dataclass(frozen=True)
class Sampling:
    """How to draw. `for_model` gives what suits a model.

    Without a model, the defaults are those of Stable Diffusion 1.x.

    Attributes:
        guidance: classifier-free guidance scale; up to 1 draws without, as stock pipelines do. A model that reads its
            guidance is given it.
        negative: the prompt that guidance leads away from.
        scheduler: one of `SCHEDULERS`.
        size: height and width in pixels; None is the size that the model was trained for.
        batch: pictures at a time; it does not change them. None is what `pictures_at_once` says of their size.
        true_cfg: classifier-free guidance scale of a model that reads its guidance (FLUX.1), which is `guidance` in
            others; up to 1 draws without, and then there is no negative prompt.
        compile: draw by a compiled network. It takes up to a minute to make; whether it is faster depends on the
            machine.
        dtype, storage, offload, tile_vae, quantize: how the model lies in memory, as `Placement` has them; noise,
            guidance and scheduler stay in float32.
    """

    steps: int = 50
    guidance: float = 7.5
    negative: str = ""
    scheduler: str = "ddim"
    size: tuple[int, int] | None = None
    batch: int | None = None
    true_cfg: float = 1.0
    compile: bool = False
    dtype: str | None = None
    storage: str | None = None
    offload: str = "none"
    tile_vae: bool = False
    quantize: str | None = None

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise EditkitError(f"--steps: expected at least 1, got {self.steps}")
        for flag, scale in (("--guidance", self.guidance), ("--true-cfg", self.true_cfg)):
            if not (math.isfinite(scale) and scale >= 0):
                raise EditkitError(f"{flag}: expected a scale of at least 0, got {scale}")
        if self.batch is not None and self.batch < 1:
            raise EditkitError(f"--batch: expected at least 1, got {self.batch}")
        if self.scheduler not in SCHEDULERS:
            raise EditkitError(f"--scheduler: expected one of {', '.join(SCHEDULERS)}, got {self.scheduler!r}")
        placed = self.placement
        if self.compile and (placed.offload != "none" or placed.storage is not None or placed.quantize is not None):
            raise EditkitError(
                "--compile: expected weights that stay as they are; give it without --offload, --storage and "
                "--quantize, which move and cast them"
            )

    @classmethod
    def for_model(cls, source: Source, **settings: Any) -> Sampling:
        """What is given, else what the model's profile says, else the stock pipeline's steps and guidance: by DDIM for
        a UNet, by its own scheduler for a transformer.

        Args:
            settings: as in `Settings`.

        Raises:
            EditkitError: a value that cannot be, and whose it is.
        """
        usual = dict(source.profile.sampling)
        try:
            if isinstance(usual.get("size"), str):
                usual["size"] = parse_size(usual["size"])
            cls(**usual)
        except EditkitError as error:
            raise EditkitError(f"profile {source.profile.name}, sampling: {error}") from error
        said = usual | {name: value for name, value in settings.items() if value is not None}
        if is_flow_model(source):
            _check_own(said.get("scheduler", OWN), source.components["scheduler"][1])
        whole = said.keys() >= {*STOCK, "scheduler"} and "true_cfg" not in said
        if source.family.component == "unet" and whole:
            return cls(**said)  # diffusers is not imported for nothing
        import diffusers

        pipeline = getattr(diffusers, source.pipeline_class, None)
        _check_guidance(source, pipeline, said)
        return cls(**stock_settings(pipeline) | said)

    @property
    def record(self) -> dict[str, Any]:
        """What a picture depends on: everything but the batch, where weights lie, and what made it fast."""
        without = {"batch", "compile", *vars(self.placement)} | (set() if self.true_cfg != 1 else {"true_cfg"})
        return {name: value for name, value in vars(self).items() if name not in without} | self.placement.record

    @property
    def placement(self) -> Placement:
        """How the model lies in memory while it draws."""
        return Placement(self.dtype, self.storage, self.offload, self.tile_vae, self.quantize)


def pictures_at_once(size: tuple[int, int]) -> int:
    """How many pictures of `size` (height, width) are drawn at a time where nobody says.

    >>> [pictures_at_once((side, side)) for side in (64, 512, 768, 1024, 2048)]
    [8, 8, 3, 2, 1]
    """
    return max(1, min(MOST_AT_ONCE, PIXELS_AT_ONCE // (size[0] * size[1])))


def stock_settings(pipeline: Any) -> dict[str, Any]:
    """The defaults of `STOCK` that a class of pipelines has for its call, and the scheduler that suits its network;
    none for what is no class of diffusers.

    >>> from diffusers import FluxPipeline, QwenImagePipeline, StableDiffusionXLPipeline
    >>> stock_settings(StableDiffusionXLPipeline)
    {'steps': 50, 'guidance': 5.0}
    >>> stock_settings(FluxPipeline)
    {'steps': 28, 'guidance': 3.5, 'scheduler': 'own'}
    >>> stock_settings(QwenImagePipeline)
    {'steps': 50, 'guidance': 4.0, 'scheduler': 'own'}
    """
    if pipeline is None:
        return {}
    parameters, found = signature(pipeline.__call__).parameters, {}
    for field, names in STOCK.items():
        defaults = [parameters[name].default for name in names if name in parameters]
        numbers = [default for default in defaults if isinstance(default, int | float)]
        found |= {field: numbers[0]} if numbers else {}
    return found if "unet" in signature(pipeline.__init__).parameters else found | {"scheduler": OWN}


def _check_guidance(source: Source, pipeline: Any, said: Mapping[str, Any]) -> None:
    """Refuse what a model's guidance has no use for, where it would be silently left out."""
    known = {} if pipeline is None else signature(pipeline.__call__).parameters
    reads_its_own = "true_cfg_scale" in known and known["true_cfg_scale"].default == 1
    true_cfg = said.get("true_cfg", 1)
    if true_cfg > 1 and not reads_its_own:
        raise EditkitError(
            f"--true-cfg: expected a model that reads its guidance, {source.name} is {source.family.title}, whose "
            "--guidance is classifier-free; give that"
        )
    if not source.is_single_file and source.index.get("is_distilled"):
        for name in ("negative", "guidance"):
            if said.get(name) and said.get(name) != 1:
                raise EditkitError(
                    f"--{name}: {source.name} ({source.family.title}) is distilled and draws without guidance; leave "
                    "it out"
                )
    if said.get("negative") and reads_its_own and true_cfg <= 1:
        raise EditkitError(
            f"--negative: {source.name} ({source.family.title}) reads its guidance and leads away from nothing; give "
            "--true-cfg above 1, too"
        )


def scheduler_for(own: Any, sampling: Sampling) -> Any:
    """A new scheduler with the noise schedule of a model's `own`, its timesteps set: of a model that predicts noise.

    Raises:
        EditkitError: more steps than the model was trained with.
    """
    scheduler = new_scheduler(own, sampling)
    scheduler.set_timesteps(sampling.steps)
    return scheduler


def new_scheduler(own: Any, sampling: Sampling) -> Any:
    """The same, its timesteps not set.

    Raises:
        EditkitError: more steps than the model was trained with; or it is of flow matching, and a scheduler is asked
            for that is not.
    """
    import diffusers

    known, name = own.config.num_train_timesteps, sampling.scheduler
    if sampling.steps > known:
        raise EditkitError(
            f"--steps: expected at most {known}, the steps that the model was trained with, got {sampling.steps}"
        )
    if is_flow(own):
        _check_own(name, type(own).__name__)
    if name == OWN and is_stochastic(own):
        raise EditkitError(
            f"--scheduler {OWN}: {type(own).__name__} draws fresh noise at every step, and no two pictures "
            f"compare; use {', '.join(known for known in SCHEDULERS if known != OWN)}"
        )
    return (type(own) if name == OWN else getattr(diffusers, SCHEDULERS[name])).from_config(own.config)


def _check_own(name: str, own: str) -> None:
    """Refuse a scheduler for a model of flow matching that is not its own."""
    if name != OWN:
        raise EditkitError(f"--scheduler: expected {OWN} for a model of flow matching ({own}), got {name!r}")


def is_stochastic(scheduler: Any) -> bool:
    """Whether a scheduler of diffusers draws noise at its steps."""
    config = scheduler.config
    is_sde = str(config.get("algorithm_type", "")).startswith("sde") or bool(config.get("stochastic_sampling"))
    return is_sde or any(part in type(scheduler).__name__ for part in STOCHASTIC)


def is_flow(scheduler: Any) -> bool:
    """Whether a scheduler of diffusers is one of flow matching: its latents are on a line from picture to noise."""
    return _is_flow_class(type(scheduler).__name__, scheduler.config)


def is_flow_model(source: Source) -> bool:
    """The same of a model's scheduler, before anything is loaded. No single file is of a flow."""
    kind = source.components.get("scheduler", ("", ""))[1]
    return not source.is_single_file and _is_flow_class(kind, source.scheduler)


def _is_flow_class(name: str, config: Mapping[str, Any]) -> bool:
    return "FlowMatch" in name or config.get("prediction_type") == "flow_prediction"


def plain_scheduler(own: Any) -> str:
    """What trajectories are drawn with where nobody asks for a sampler: DDIM, of a flow the model's `own`."""
    return OWN if is_flow(own) else "ddim"


def parse_size(text: str) -> tuple[int, int]:
    """ "512x768" is 512 wide and 768 high, as people write it; returns height and width."""
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdecimal() and height.isdecimal()):
        raise EditkitError(f"--size: expected WIDTHxHEIGHT in pixels such as 512x768, got {text!r}")
    return int(height), int(width)
