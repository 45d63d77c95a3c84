"""How to draw: steps, guidance, scheduler, size."""

from __future__ import annotations

from dataclasses import dataclass
from inspect import signature
from typing import Any, TypedDict

from editkit.errors import EditkitError
from editkit.model.checkpoints.source import Source

SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "euler": "EulerDiscreteScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
}
"""Deterministic samplers of diffusers: a picture is a function of its noise."""


STOCK = {"steps": "num_inference_steps", "guidance": "guidance_scale"}
"""Field of `Sampling` → the argument of a pipeline of diffusers. Their size is the model's, as it is here."""


class Settings(TypedDict, total=False):
    """What a user may say of sampling; None or absent is what suits the model."""

    steps: int | None
    guidance: float | None
    negative: str | None
    scheduler: str | None
    size: tuple[int, int] | None
    batch: int | None


@dataclass(frozen=True)
class Sampling:
    """How to draw. `for_model` gives what suits a model.

    Without a model, the defaults are those of Stable Diffusion 1.x.

    Attributes:
        guidance: classifier-free guidance scale; 1 draws without.
        negative: the prompt that guidance leads away from.
        scheduler: one of `SCHEDULERS`.
        size: height and width in pixels; None is the size that the model was trained for.
        batch: pictures at a time; it does not change them.
    """

    steps: int = 50
    guidance: float = 7.5
    negative: str = ""
    scheduler: str = "ddim"
    size: tuple[int, int] | None = None
    batch: int = 32

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise EditkitError(f"--steps: expected at least 1, got {self.steps}")
        if self.batch < 1:
            raise EditkitError(f"--batch: expected at least 1, got {self.batch}")
        if self.scheduler not in SCHEDULERS:
            raise EditkitError(f"--scheduler: expected one of {', '.join(SCHEDULERS)}, got {self.scheduler!r}")

    @classmethod
    def for_model(cls, source: Source, **settings: Any) -> Sampling:
        """What is given, else what the model's profile says, else DDIM with the stock pipeline's steps and guidance.

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
        if said.keys() >= STOCK.keys():  # diffusers is not imported for nothing
            return cls(**said)
        import diffusers

        return cls(**stock_settings(getattr(diffusers, source.family.pipelines[0], None)) | said)

    @property
    def record(self) -> dict[str, Any]:
        """What a picture depends on: everything but the batch."""
        return {name: value for name, value in vars(self).items() if name != "batch"}


def stock_settings(pipeline: Any) -> dict[str, Any]:
    """The defaults of `STOCK` that a class of pipelines has for its call; none for what is no class of diffusers.

    >>> from diffusers import StableDiffusionXLPipeline
    >>> stock_settings(StableDiffusionXLPipeline)
    {'steps': 50, 'guidance': 5.0}
    """
    parameters = {} if pipeline is None else signature(pipeline.__call__).parameters
    defaults = {field: parameters[name].default for field, name in STOCK.items() if name in parameters}
    return {field: default for field, default in defaults.items() if isinstance(default, int | float)}


def scheduler_for(own: Any, sampling: Sampling) -> Any:
    """A new scheduler with the noise schedule of the model's `own`, its timesteps set.

    Raises:
        EditkitError: more steps than the model was trained with.
    """
    import diffusers

    scheduler = getattr(diffusers, SCHEDULERS[sampling.scheduler]).from_config(own.config)
    known = scheduler.config.num_train_timesteps
    if sampling.steps > known:
        raise EditkitError(f"--steps: expected at most {known}, the steps that the model was trained with")
    scheduler.set_timesteps(sampling.steps)
    return scheduler


def parse_size(text: str) -> tuple[int, int]:
    """ "512x768" is 512 wide and 768 high, as people write it; returns height and width."""
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdecimal() and height.isdecimal()):
        raise EditkitError(f"--size: expected WIDTHxHEIGHT in pixels such as 512x768, got {text!r}")
    return int(height), int(width)
