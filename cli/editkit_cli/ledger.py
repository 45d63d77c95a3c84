"""`editkit ledger`: add, withdraw, show, solve and verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from editkit.erasure.ledger.ledger import WITHIN
from editkit_cli.edits import Force, Json, Model, Preserve, PreserveFile, Profile, SolveDevice, Tokenizer, Unchecked
from editkit_cli.groups import Commands
from editkit_cli.options import flags, group

LedgerFile = Annotated[Path, typer.Argument(help="A ledger: a text file.")]
ItsModel = Annotated[
    str | None, typer.Option(help="As for `editkit erase`. Default: the model that the ledger was begun for.")
]


@flags(group("methods"))
def add(
    ledger: LedgerFile,
    concept: Annotated[str, typer.Option(help="What to erase.")],
    guide: Annotated[
        str | None, typer.Option(help="What it becomes: a text, `average`, `nearest`, `in-class` or `safe`.")
    ] = None,
    synonym: Annotated[list[str] | None, typer.Option(help="A word to erase with it. Repeat for more.")] = None,
    found: Annotated[
        list[str] | None, typer.Option(help="A prompt that brought it back, to erase with it. Repeat for more.")
    ] = None,
    who: Annotated[str, typer.Option(help="Who asked for it.")] = "",
    why: Annotated[str, typer.Option(help="Why, or the number of a ticket.")] = "",
    when: Annotated[str | None, typer.Option(help="When. Default: today.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the entry of the same concept.")] = False,
    method: Annotated[
        str | None, typer.Option(help="See `editkit methods`. This and what follows is said once, by the first `add`.")
    ] = None,
    model: Model = None,
    profile: Profile = None,
    tokenizer: Tokenizer = None,
    preserve: Preserve = None,
    preserve_file: PreserveFile = None,
    synonyms: Annotated[str | None, typer.Option(help="erase or leave, as for `editkit erase`.")] = None,
    **given: Any,
) -> None:
    """Add a concept to a ledger; without a file it begins one."""
    from datetime import date

    from editkit.concepts.vocabulary import read_word_file
    from editkit.erasure.ledger.entries import LedgerEntry
    from editkit.erasure.ledger.open import ledger as opened
    from editkit.model.editable import open_model
    from editkit_cli.show_ledger import show_change

    when = date.today().isoformat() if when is None else when
    entry = LedgerEntry(concept, guide, tuple(synonym or ()), tuple(found or ()), who, why, when)
    kept = [*(preserve or []), *(read_word_file(preserve_file) if preserve_file else [])] or None
    begun = open_model(model, tokenizer, profile) if model or profile or not ledger.exists() else None
    before = opened(ledger, begun, kept, synonyms, method, **given)
    after = before.add(entry, force)
    after.write(ledger, force=True)
    show_change(ledger, f"{entry.concept} added", before, after)


def withdraw(
    ledger: LedgerFile,
    concept: Annotated[list[str], typer.Argument(help="What is to be drawn again; one or more.")],
) -> None:
    """Take concepts out of a ledger, as if they had never been in it."""
    from editkit.erasure.ledger.ledger import Ledger
    from editkit_cli.show_ledger import show_change

    before = after = Ledger.read(ledger)
    for each in concept:
        after = after.withdraw(each)
    after.write(ledger, force=True)
    show_change(ledger, f"{', '.join(concept)} withdrawn", before, after)


def solve(
    ledger: LedgerFile,
    out: Annotated[Path | None, typer.Option(help="Edit file. Default: LEDGER.safetensors.")] = None,
    model: ItsModel = None,
    profile: Profile = None,
    tokenizer: Tokenizer = None,
    device: SolveDevice = None,
    unchecked: Unchecked = False,
    force: Force = False,
    json: Json = False,
) -> None:
    """Make the edit that erases every concept of a ledger, all in one solve."""
    from editkit.erasure.ledger.ledger import Ledger
    from editkit.model.editable import open_model
    from editkit.variants.edit_file import check_free_for_edit, save_edit
    from editkit_cli.show import show_record

    read = Ledger.read(ledger)
    out = out or ledger.with_suffix(".safetensors")
    check_free_for_edit(out, force)
    made = read.solve(open_model(model or read.model, tokenizer, profile, device), not unchecked)
    save_edit(made, out, force)
    show_record(made.record, out, json)


def show(ledger: LedgerFile, json: Json = False) -> None:
    """Print what a ledger holds."""
    from editkit.erasure.ledger.ledger import Ledger
    from editkit_cli.show_ledger import show_ledger

    show_ledger(Ledger.read(ledger), ledger, json)


def verify(
    ledger: LedgerFile,
    edit: Annotated[Path, typer.Argument(help="An edit file.")],
    model: ItsModel = None,
    profile: Profile = None,
    tokenizer: Tokenizer = None,
    within: Annotated[
        float, typer.Option(help="How far apart the maps may be, in shares of the change.", min=0)
    ] = WITHIN,
) -> None:
    """Say whether an edit file is what a ledger gives; exit with 1 and what differs where it is not."""
    from editkit.erasure.ledger.ledger import Ledger
    from editkit.errors import EditkitError
    from editkit.model.editable import open_model
    from editkit.variants.edit_file import load_linear
    from editkit_cli.show_ledger import count

    read, made = Ledger.read(ledger), load_linear(edit)
    verdict = read.verify(made, open_model(model or read.model, tokenizer, profile), within)
    if not verdict.same:
        raise EditkitError(
            f"{edit}: is not what {ledger} gives: {'; '.join(verdict.differences)}; make it again with `editkit ledger "
            "solve`"
        )
    print(f"{edit} is what {ledger} gives: {count(read)}, apart by {verdict.apart:.1g} of the change")


COMMANDS = {"add": add, "withdraw": withdraw, "solve": solve, "show": show, "verify": verify}


class Ledger(Commands):
    """Keep what to erase in a text file: add and withdraw concepts, solve for all at once."""

    functions = COMMANDS
