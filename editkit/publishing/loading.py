"""How a card says to load an edit: with editkit, with diffusers, in ComfyUI and in WebUI."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from editkit.model.families.table import by_name
from editkit.plugins import loadable
from editkit.publishing.subject import Subject


def loading(subject: Subject, repository: str | None = None) -> Iterator[str]:
    """The lines of the section.

    Args:
        repository: on the Hub, where the file is; without it, it lies beside the card.
    """
    name, base = subject.file.name, subject.base
    edit = f'hf_hub_download("{repository}", "{name}")' if repository else f'"{name}"'
    yield from ("With editkit, in a pipeline of diffusers:", "", "```python")
    if repository:
        yield "from huggingface_hub import hf_hub_download"
    yield from ("import editkit", "", f'pipe = editkit.load("{base}")')
    if "gate" in subject.record:
        yield from (
            f"installed = editkit.gate(pipe, {edit})", f'picture = pipe("{_prompt(subject)}").images[0]', "```", "",
            "It is no weights: nothing can be exported, and neither ComfyUI nor WebUI can load it.",
        )  # fmt: skip
        return
    yield from (
        f"edit = editkit.load_edit({edit})", "with editkit.applied(pipe, edit):",
        f'    picture = pipe("{_prompt(subject)}").images[0]', "```", "",
        "As weights that need no editkit:", "", "```sh",
    )  # fmt: skip
    yield from (_line(subject, format, out) for format, out, _ in _exports(subject))
    yield from ("```", "")
    yield from (f"- {use}" for _, _, use in _exports(subject))
    yield from ("", "Whether a model is this base with this edit:", "", "```sh")
    yield from (shlex.join(["editkit", "verify", _exports(subject)[0][1], name, "--base", base]), "```")


def _exports(subject: Subject) -> list[tuple[str, str, str]]:
    """Format, place, and who loads it."""
    family = by_name(str(subject.record["family"]))
    low_rank = [
        ("lora", "lora.safetensors", 'diffusers: `pipe.load_lora_weights("lora.safetensors")`'),
        ("kohya", "kohya.safetensors", "ComfyUI: `models/loras`; WebUI: `models/Lora`, `<lora:kohya:1>`"),
    ]
    whole = (
        ("single-file", "edited.safetensors", "ComfyUI: `models/checkpoints`; WebUI: `models/Stable-diffusion`")
        if subject.is_single_file
        else ("diffusers", "edited/", 'diffusers: `DiffusionPipeline.from_pretrained("edited/")`')
    )
    every = [whole, *(low_rank if subject.is_low_rank else [])]
    kinds = loadable("formats")
    return [each for each in every if kinds[each[0]].suits(family)]


def _line(subject: Subject, format: str, out: str) -> str:
    words = ["editkit", "export", subject.file.name, "--model", subject.base, "--format", format, "--out", out]
    return shlex.join(words)


def _prompt(subject: Subject) -> str:
    return (subject.concepts or ["a dog"])[0].replace("\\", "\\\\").replace('"', '\\"')
