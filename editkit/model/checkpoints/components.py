"""Tokenizers and models of transformers, read from a model's folder."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from editkit.errors import EditkitError
from editkit.model.checkpoints.projections import is_plain, read_component
from editkit.model.checkpoints.source import INDEX, Source
from editkit.model.quiet import quiet


def stated_class(source: Source, component: str) -> Any:
    """The class of transformers that `model_index.json` names for a component.

    Raises:
        EditkitError: it names none, or one that transformers does not have.
    """
    import transformers

    source.check_stated(component)
    library, name = source.components[component]
    component_class = getattr(transformers, name, None) if library == "transformers" else None
    if component_class is None:
        raise EditkitError(
            f"model {source.name}: expected a class of transformers for its {component}, but its {INDEX} says "
            f"{library}.{name}, which transformers {transformers.__version__} does not have; try another version of it"
        )
    return component_class


def read(source: Source, kind: Any, component: str, **how: Any) -> Any:
    """A tokenizer, or with `how` a model of safetensors.

    Raises:
        EditkitError: it is not there, damaged, quantised, or a pickle.
    """
    source.check_stated(component)
    folder: Path | None = source.path / component
    if how:
        how |= {"use_safetensors": True, "variant": source.variant(component)}  # a pickle, or nothing, is refused here
        if not is_plain(source, component):
            how = {"config": kind.config_class.from_pretrained(folder), "state_dict": read_component(source, component)}
            folder = None
    try:
        with quiet() if how else nullcontext():
            loaded = kind.from_pretrained(folder, local_files_only=True, **how)
    except Exception as error:  # transformers raises whatever its readers raise
        raise EditkitError(
            f"model {source.name}: its {component} cannot be read ({error}); {_remedy(source, component)}"
        ) from error
    return loaded.eval() if how else loaded


def variants(source: Source, dtypes: Mapping[str, Any]) -> dict[str, Any]:
    """Those of some components that are stored as a variant alone, loaded: diffusers takes one variant for all.

    Args:
        dtypes: component → what of torch its weights are kept in.
    """
    import diffusers
    import transformers

    libraries = {"diffusers": diffusers, "transformers": transformers}
    loaded = {}
    for component, dtype in dtypes.items():
        library, kind = source.components[component]
        if variant := source.variant(component):
            how: dict[str, Any] = {
                "dtype": dtype,
                "variant": variant,
                "use_safetensors": True,
                "local_files_only": True,
            }
            loaded[component] = getattr(libraries[library], kind).from_pretrained(source.path / component, **how)
    return loaded


def _remedy(source: Source, component: str) -> str:
    folder = source.path / component
    if not folder.is_dir():
        return f"there is no folder {folder}, fetch it"
    return f"compare {folder} with the model's own repository"
