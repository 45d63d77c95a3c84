"""Can stock diffusers load every component that a folder's index names?"""

from __future__ import annotations

import re

from editkit.errors import EditkitError
from editkit.files.header import read_header
from editkit.model.checkpoints.numbers import NOTE, SCALE
from editkit.model.checkpoints.source import Source
from editkit.model.checkpoints.weight_files import STEMS

OPTIONAL = ("safety_checker", "feature_extractor", "image_encoder")
"""Components that pipelines draw without."""
_STEMS = {"diffusers": STEMS[:1], "transformers": STEMS[1:]}
"""Which name of weights the classes of a library look for."""
_WITHOUT_WEIGHTS = re.compile(r".*(Scheduler|Tokenizer(Fast)?|TokenizersBackend|Processor(Fast)?|FeatureExtractor)")
"""Classes of components that have none."""


def unloadable(source: Source) -> dict[str, str]:
    """Optional components of a folder that stock diffusers could not load from safetensors, and why.

    Raises:
        EditkitError: it is a component that the pipeline needs; the message says what is wrong with it.
    """
    absent: dict[str, str] = {}
    for component in source.components:
        try:
            check_loadable(source, component)
        except EditkitError as error:
            if component not in OPTIONAL:
                raise
            absent[component] = str(error)
    return absent


def check_loadable(source: Source, component: str) -> None:
    """Refuse a component that stock diffusers could not load from safetensors.

    Raises:
        EditkitError: its folder or its weights are missing or damaged, under names that stock does not look for, or
            in a form of ComfyUI's.
    """
    source.check_stated(component)
    library, kind = source.components[component]
    folder = source.path / component
    if _WITHOUT_WEIGHTS.fullmatch(kind):
        if not folder.is_dir():
            raise EditkitError(
                f"{folder}: expected the {component} that model_index.json names, found no such folder; fetch it"
            )
        if kind.endswith("Scheduler") and not (folder / "scheduler_config.json").is_file():
            raise EditkitError(f"{folder}: expected scheduler_config.json in it, found none; fetch it")
        return
    for path in source.weights(component):
        note = next((name for name in read_header(path).tensors if name.endswith((SCALE, NOTE))), None)
        if note is not None:
            raise EditkitError(
                f"{path}: holds {note}, scaled float8 of ComfyUI's, which stock {library} does not read; "
                "give the unquantised model"
            )
        stems = _STEMS.get(library, STEMS)
        if not path.name.startswith(stems):
            raise EditkitError(
                f"{path}: expected a name that {library} looks for ({stems[0]}.safetensors), found another; rename it"
            )
