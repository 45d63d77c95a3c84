"""`editkit moderate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from editkit_cli.edits import (
    ConceptsColumn,
    ConceptsFile,
    Force,
    Guide,
    Json,
    Method,
    Model,
    Preserve,
    PreserveFile,
    Preset,
    Prior,
    Profile,
    Synonym,
    Synonyms,
    Tokenizer,
    Unchecked,
    Vocabulary,
    concepts_of,
    preset_and_options,
)
from editkit_cli.options import flags, group
from editkit_cli.pictures import Batch, Device, Guidance, Negative, Scheduler, Size, Steps, TrueCfg, sampling_settings


@flags(group("methods"), less=("strength",))
def moderate(
    concept: Annotated[list[str] | None, typer.Option(help="What to erase in part. Repeat for more.")] = None,
    concepts_file: ConceptsFile = None,
    concepts_column: ConceptsColumn = None,
    preset: Preset = None,
    strength: Annotated[
        float | None,
        typer.Option(help="From 0, no edit, to 1, the whole edit. Default: the preset's, else 0.5."),
    ] = None,
    by: Annotated[
        str,
        typer.Option(
            help="What it is a part of. map: of how far the edit moves keys and values. share: of what the whole edit "
            "takes from the share of pictures that show the concept; that is searched for."
        ),
    ] = "map",
    pictures: Annotated[int, typer.Option(help="Of each concept and edit, to be counted; 0: measure nothing.")] = 32,
    detector: Annotated[
        str | None, typer.Option(help="Who looks at the pictures. Default: the profile's judge, if it has one.")
    ] = None,
    method: Method = None,
    model: Model = None,
    profile: Profile = None,
    guide: Guide = None,
    preserve: Preserve = None,
    preserve_file: PreserveFile = None,
    vocabulary: Vocabulary = None,
    prior: Prior = None,
    synonyms: Synonyms = None,
    synonym: Synonym = None,
    steps: Steps = None,
    guidance: Guidance = None,
    scheduler: Scheduler = None,
    negative: Negative = None,
    true_cfg: TrueCfg = None,
    size: Size = None,
    batch: Batch = None,
    device: Device = None,
    out: Annotated[Path | None, typer.Option(help="Edit file. Default: CONCEPT-METHOD-moderated.safetensors.")] = None,
    tokenizer: Tokenizer = None,
    unchecked: Unchecked = False,
    force: Force = False,
    json: Json = False,
    **given: Any,
) -> None:
    """Erase concepts in part, and say how much of each is still seen.

    With the whole edit M, the edit is I + t (M − I): each key and value of a concept goes t of the way. By default t is
    the strength; the share of pictures that still show the concept is measured, and need not fall by as much.

    Example: editkit moderate --concept weapon --strength 0.5
    """
    from editkit.concepts.vocabulary import read_word_file
    from editkit.erasure.words import read_vocabulary
    from editkit.evaluation.moderate import moderate as moderated
    from editkit.files.names import file_stem
    from editkit.model.editable import open_model
    from editkit.variants.edit_file import check_free_for_edit, save_edit
    from editkit_cli.show import show_record

    chosen, options = preset_and_options(preset, method, given)
    concepts = concepts_of(concept, concepts_file, concepts_column)
    kept = [*(preserve or []), *(read_word_file(preserve_file) if preserve_file else [])]
    named = concepts if concepts or chosen is None else [chosen.name]
    out = out or Path(f"{file_stem(named)}-{options.name}-moderated.safetensors")
    check_free_for_edit(out, force)
    opened = open_model(model, tokenizer, profile)
    made = moderated(
        opened, concepts, strength, guide or (), kept, options, read_vocabulary(opened, vocabulary), not unchecked,
        synonyms, synonym or (), prior, chosen, by, pictures, detector, device,
        **sampling_settings(steps, guidance, scheduler, negative, size, batch, true_cfg, False),
    )  # fmt: skip
    save_edit(made, out, force)
    show_record(made.record, out, json)
