"""What is known of one kind of stage."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from editkit.chaining.fields import Field, fields_of, option_fields
from editkit.chaining.task import VOCABULARY, Task
from editkit.options import Option
from editkit.plugins import attribute

GIVEN = frozenset(
    {"model", "out", "path", "options", "device", "force", "profile", "resume", "tracker", "tell", "settings", "search"}
)
"""Parameters that are no fields: the recipe gives them, or their parts are fields."""


def no_options() -> tuple[Option, ...]:
    """Of a kind that takes no components."""
    return ()


def unchecked(task: Task) -> None:
    """For a kind whose fields are all there is to check."""


@dataclass(frozen=True)
class Kind:
    """One kind of stage.

    Attributes:
        summary: what it does, in a sentence.
        function: `module:attribute`; its parameters are fields.
        run: does it.
        check: refuses before anything starts what cannot work.
        one, several: the parameter that takes one variant, or any number of them.
        makes: what of it other stages take: its edit file, or the folder of a gradient stage; empty: no edit.
        ending: of the file that it makes, where that is no edit; empty: it makes a folder.
        reads: further parameters that take stages → the kind of these, whose files or folders they are.
        components: the options that are fields besides.
        draws: whether it takes the settings of drawing.
        less: parameters that a recipe cannot say.
        more: fields that are no parameters.
    """

    summary: str
    function: str
    run: Callable[[Task], None]
    check: Callable[[Task], None] = unchecked
    one: str = ""
    several: str = ""
    makes: str = ""
    ending: str = ""
    reads: Mapping[str, str] = field(default_factory=dict)
    components: Callable[[], Collection[Option]] = no_options
    draws: bool = False
    less: tuple[str, ...] = ()
    more: tuple[Field, ...] = ()

    @property
    def takes(self) -> tuple[str, ...]:
        """The parameters that take stages."""
        return tuple(filter(None, (self.one, self.several, *self.reads)))

    @cached_property
    def fields(self) -> Mapping[str, Field]:
        """Everything that a stage may say, by name; what it takes among it."""
        more = {known.name: known for known in self.more}
        said = more | fields_of(attribute(self.function), {*GIVEN, *self.less})
        if VOCABULARY in said:
            said[VOCABULARY] = replace(said[VOCABULARY], kinds=(str, list), is_path=True)
        for name in self.takes:
            said[name] = replace(said[name], kinds=(str,) if name == self.one else (list, str), is_path=False)
        if self.draws:
            said |= _settings()
        return option_fields(self.components()) | said

    @property
    def options(self) -> tuple[Option, ...]:
        """The fields for a listing."""
        return tuple(
            known.option
            or Option(known.name, known.shape, False, None, {}, "", (), None, None, True, known.required)
            for known in self.fields.values()
        )  # fmt: skip


def _settings() -> dict[str, Field]:
    from editkit.concepts.profile_file import SAMPLING

    return {name: Field(name, (int, float) if kind is float else (kind,)) for name, kind in SAMPLING.items()}
