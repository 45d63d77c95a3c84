"""`editkit erase`, `edit` and `export`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from editkit.plugins import GROUPS, load
from editkit_cli.options import flags, group

if TYPE_CHECKING:
    from editkit.edits.edit import Edit
    from editkit.edits.method import Method as Options
    from editkit.edits.tuned import Tuned
    from editkit.erasure.presets.preset import Preset as ReadPreset
    from editkit.model.editable import EditableModel

Model = Annotated[
    str | None,
    typer.Option(
        help="`emoji` (bundled), a diffusers folder, a .safetensors checkpoint or a hub id. "
        "Default: $EDITKIT_MODEL, else emoji."
    ),
]
Profile = Annotated[
    Path | None,
    typer.Option(help="TOML file of what the model brings along: its words, templates, judge, sampling, refining."),
]
Tokenizer = Annotated[
    Path | None, typer.Option(help="Folder of the tokenizer, for a single file whose tokenizer is not CLIP's.")
]
ConceptsFile = Annotated[
    Path | None,
    typer.Option(help="File of concepts: one a line, a table with a column of them, or JSON. Each is taken once."),
]
ConceptsColumn = Annotated[
    str | None,
    typer.Option(help="Which column of that file, or which list of a JSON object; `keys`: the names of its lists."),
]
Preserve = Annotated[list[str] | None, typer.Option(help="A prompt that must stay as it is. Repeat for more.")]
PreserveFile = Annotated[Path | None, typer.Option(help="Prompts to preserve, one a line.")]
Vocabulary = Annotated[
    str | None,
    typer.Option(
        help="File of words to protect, one a line, or `tokens`: the tokenizer's own. Default: the model's own words."
    ),
]
Prior = Annotated[
    Path | None,
    typer.Option(help="File of captions to hold where they are, however many: one a line, or a table."),
]
SolveDevice = Annotated[
    str | None, typer.Option("--device", help="Where to encode and to solve: cpu, cuda, ... Default: cpu.")
]
Preset = Annotated[
    str | None,
    typer.Option(
        help="What a paper erases and how: see `editkit presets`, or a .toml file. Other options win over it."
    ),
]
Unchecked = Annotated[
    bool, typer.Option("--unchecked", help="Write the edit even where it blows up; that is said and recorded.")
]
ErasePlan = Annotated[
    bool,
    typer.Option("--plan", help="Print the planned memory and stop; with --device cuda, no GPU is needed."),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")]
Json = Annotated[bool, typer.Option("--json", help="Print the record as JSON.")]


Method = Annotated[
    str | None,
    typer.Option(
        help=f"See `editkit methods`. Default: the preset's, else {GROUPS['methods'].default}, with --from uce."
    ),
]
Guide = Annotated[
    list[str] | None,
    typer.Option(
        help="What a concept becomes: a text, `average`, `nearest`, `in-class` or `safe`. One for all, or one each."
    ),
]
Synonyms = Annotated[
    str | None,
    typer.Option(
        help="erase: with a concept goes what is known or measured to mean the same. leave: it is neither erased "
        "nor protected. Default: erase; with --protect none leave."
    ),
]
Synonym = Annotated[list[str] | None, typer.Option(help="One more word to erase. Repeat for more.")]


def concepts_of(concept: list[str] | None, file: Path | None, column: str | None) -> list[str]:
    """The concepts of the command line and of a file; what was read of the file is told on the error stream."""
    from editkit.concepts.concept_file import read_concept_file
    from editkit.errors import EditkitError

    if file is None:
        if column is not None:
            raise EditkitError("--concepts-column: names a column of --concepts-file; give that, too")
        return list(concept or [])
    read = read_concept_file(file, column)
    print(read.told, file=sys.stderr)
    known = {each.casefold() for each in concept or []}
    return [*(concept or []), *(each for each in read.concepts if each.casefold() not in known)]


def preset_and_options(
    preset: str | None, method: str | None, given: dict[str, Any]
) -> tuple[ReadPreset | None, Options]:
    """The preset, and the options of the method with what it says; what is not taken of it is told on the error
    stream."""
    from editkit.edits.method import Options
    from editkit.erasure.presets.preset_file import load_preset

    if preset is None:
        return None, Options(method or GROUPS["methods"].default, **given)
    chosen = load_preset(preset)
    options = chosen.options(method, **given)
    if told := chosen.told(options):
        print(told, file=sys.stderr)
    return chosen, options


@flags(group("methods"))
def erase(
    concept: Annotated[list[str] | None, typer.Option(help="What to erase. Repeat for more.")] = None,
    concepts_file: ConceptsFile = None,
    concepts_column: ConceptsColumn = None,
    preset: Preset = None,
    from_: Annotated[
        list[str] | None,
        typer.Option(
            "--from", help="Erase the concept where it is said of this alone: noto of churches. Repeat for more."
        ),
    ] = None,
    phrase: Annotated[
        str | None,
        typer.Option(help="With --from: how it is said of it, such as '{x} {y}' or '{y} in the style of {x}'."),
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
    picture: Annotated[
        list[Path] | None, typer.Option(help="A file of `editkit invert`: what its pictures show. Repeat for more.")
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Folder of pictures of one more thing, which are inverted first.")
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(help="--pictures: folder of masks, named as these; erase what is black in them.")
    ] = None,
    word: Annotated[
        str | None,
        typer.Option(
            help="One token: what --pictures show or --masks hide; default: chosen by the loss. Or of a --picture."
        ),
    ] = None,
    harden: Annotated[
        int, typer.Option(help="Rounds of attacking the edit and erasing what brings the concept back.", min=0)
    ] = 0,
    out: Annotated[Path | None, typer.Option(help="Edit file. Default: CONCEPT-METHOD.safetensors.")] = None,
    tokenizer: Tokenizer = None,
    device: SolveDevice = None,
    plan: ErasePlan = False,
    unchecked: Unchecked = False,
    force: Force = False,
    json: Json = False,
    **given: Any,
) -> None:
    """Remove concepts from a model: writes an edit file, and says what the edit does."""
    from editkit.concepts.vocabulary import read_word_file
    from editkit.erasure.bound import METHOD
    from editkit.erasure.erase import erase as erase_from
    from editkit.erasure.plan import plan_erasing
    from editkit.erasure.words import read_vocabulary
    from editkit.files.names import file_stem
    from editkit.model.editable import open_model
    from editkit.variants.edit_file import check_free_for_edit, save_edit
    from editkit_cli.invert import learned_of
    from editkit_cli.show import show_record

    chosen, options = preset_and_options(preset, method or (METHOD if from_ and not preset else None), given)
    concepts = concepts_of(concept, concepts_file, concepts_column)
    kept = [*(preserve or []), *(read_word_file(preserve_file) if preserve_file else [])]
    if plan:
        words = read_vocabulary(open_model(model, tokenizer, profile), vocabulary)
        asked = (concepts, guide or (), kept, options, synonyms, synonym or ())
        concepts, guides, kept, *_ = asked if chosen is None else chosen.filled(*asked)
        print(plan_erasing(model, device, concepts, guides, kept, options, words, profile))
        return
    folder = [] if pictures is None else [pictures.resolve().name]
    shown = [*([word] if word else folder), *(file.name.split(".")[0] for file in picture or [])]
    named = [*concepts, *shown] if concepts or shown or chosen is None else [chosen.name]
    out = out or Path(f"{file_stem([*named, *(f'from {each}' for each in from_ or [])])}-{options.name}.safetensors")
    check_free_for_edit(out, force)
    opened = open_model(model, tokenizer, profile, device)
    learned = learned_of(opened, picture or [], pictures, masks, word, kept, device, out, force)
    words = read_vocabulary(opened, vocabulary)
    made = erase_from(
        opened, concepts, guide or (), kept, options, words, not unchecked, synonyms, synonym or (), prior=prior,
        preset=chosen, of=from_ or (), phrase=phrase, pictures=learned,
    )  # fmt: skip
    if harden:
        from editkit.redteam.harden import harden as hardened
        from editkit_cli.show_attacks import show_round

        said = {**({} if chosen is None else chosen.harden), "rounds": harden}
        made = hardened(made, opened, vocabulary=words, prior=prior, device=device, tell=show_round, **said)
    save_edit(made, out, force)
    show_record(made.record, out, json)


@flags(lambda: {"time": load("methods", "time")}, less=("tokens", "erase_scale", "expand"))
def edit(
    source: Annotated[str, typer.Argument(help="The prompt to change.")],
    destination: Annotated[str, typer.Argument(help="What it must mean.")],
    method: Annotated[str, typer.Option(help="`time`.")] = "time",
    model: Model = None,
    profile: Profile = None,
    preserve: Preserve = None,
    preserve_file: PreserveFile = None,
    vocabulary: Vocabulary = None,
    augment: Annotated[
        bool, typer.Option("--augment", help="Also edit the prompt after 'A photo of' and so on.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Edit file. Default: SOURCE-METHOD.safetensors.")] = None,
    tokenizer: Tokenizer = None,
    device: SolveDevice = None,
    unchecked: Unchecked = False,
    force: Force = False,
    json: Json = False,
    **given: Any,
) -> None:
    """Change what a prompt means: "a red rose" becomes "a blue rose"."""
    from editkit.concepts.vocabulary import read_word_file
    from editkit.edits.method import Options
    from editkit.erasure.edit import edit as edit_in
    from editkit.erasure.words import read_vocabulary
    from editkit.errors import EditkitError
    from editkit.files.names import file_stem
    from editkit.model.editable import open_model
    from editkit.variants.edit_file import check_free_for_edit, save_edit
    from editkit_cli.show import show_record

    if method != "time":
        raise EditkitError(f"--method: `edit` changes a prompt with time, but got {method!r}; use `erase` for {method}")
    options = Options(method, **given)
    kept = [*(preserve or []), *(read_word_file(preserve_file) if preserve_file else [])]
    out = out or Path(f"{file_stem([source])}-time.safetensors")
    check_free_for_edit(out, force)
    opened = open_model(model, tokenizer, profile, device)
    words = read_vocabulary(opened, vocabulary)
    made = edit_in(opened, source, destination, kept, options, augment, words, not unchecked)
    save_edit(made, out, force)
    show_record(made.record, out, json)


@flags(group("formats"))
def export(
    edit: Annotated[Path, typer.Argument(help="An edit file.")],
    out: Annotated[Path, typer.Option(help="File or, for `diffusers`, folder to write.")],
    model: Model = None,
    format: Annotated[
        str, typer.Option(help="`kv`, `diffusers`, `single-file`, `lora` (diffusers) or `kohya` (WebUI, ComfyUI).")
    ] = GROUPS["formats"].default,
    tokenizer: Tokenizer = None,
    force: Force = False,
    **given: Any,
) -> None:
    """Write an edit as weights that other programs load."""
    from editkit.model.editable import open_model
    from editkit.variants.edit_file import load_edit
    from editkit.variants.export import export as export_edit

    opened = open_model(model, tokenizer)
    done = export_edit(load_edit(edit), opened, out, format, force, **given)
    lost = f", error of {done.lost_by} {done.error:.2g} of the change" if done.lost_by else ""
    print(f"{done.count} edited projections of model {opened.source.name} written to {out}{lost}")
    if done.left_out:
        print(f"left out, since they hold the unedited weights or are pickles: {', '.join(done.left_out)}")
    if done.variant:
        print(f"a component is stored as {done.variant} alone: load the folder with variant={done.variant!r}")


def compose(
    edits: Annotated[list[Path], typer.Argument(help="Edit files, in the order in which they are applied.")],
    out: Annotated[Path, typer.Option(help="Edit file to write.")],
    scale: Annotated[float, typer.Option(help="How far to go: 0 is no edit, 1 the whole of it.")] = 1.0,
    fuse: Annotated[
        bool,
        typer.Option("--fuse", help="Solve for the concepts of all edits at once, each going where its own sends it."),
    ] = False,
    model: Model = None,
    profile: Profile = None,
    vocabulary: Vocabulary = None,
    force: Force = False,
) -> None:
    """Make one edit of several, or go part of the way of one."""
    from editkit_cli.show import show_record

    if fuse:
        from editkit.model.editable import open_model

        made = _fused(edits, out, scale, open_model(model, profile=profile), vocabulary, force)
    else:
        from editkit.errors import EditkitError
        from editkit.variants.compose import compose as compose_edits

        if any(given is not None for given in (model, profile, vocabulary)):
            raise EditkitError(
                "--model, --profile and --vocabulary are for --fuse; without it edits are composed as they are"
            )
        made = compose_edits(edits, out, scale, force)
    show_record(made.record, out, False)


def _fused(
    edits: list[Path], out: Path, scale: float, model: EditableModel, vocabulary: str | None, force: bool
) -> Edit | Tuned:
    from editkit.erasure.words import read_vocabulary
    from editkit.errors import EditkitError
    from editkit.variants.edit_file import check_free_for_edit
    from editkit.variants.fuse import fuse
    from editkit.variants.fuse_tuned import fuse_tuned
    from editkit.variants.tuned_file import is_tuned

    if scale != 1:
        raise EditkitError("--scale: goes part of the way of a finished edit; fuse first, then scale the result")
    check_free_for_edit(out, force)
    fuse_all = fuse_tuned if all(map(is_tuned, edits)) else fuse
    return fuse_all(edits, model, out, vocabulary=read_vocabulary(model, vocabulary), force=force)
