"""Part of a suite whose classes are values of one attribute: "a dog on a {} background" asks for a colour."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from editkit.concepts.templates import fill


@dataclass(frozen=True)
class Binding:
    """Classes, and the prompts that ask for each.

    >>> list(Binding("background", ("blue",), ("a {subject} on a {} background",), ("owl",)).prompts())
    [('blue', 'owl', 'an owl on a blue background')]

    Attributes:
        attribute: of the detection, such as `background`; None where classes are labels.
        classes: values of the attribute.
        templates: sentences with `{}` for the class and `{subject}` for the subject.
        subjects: what else a prompt names; empty where the templates do not ask for it.
    """

    attribute: str | None
    classes: tuple[str, ...]
    templates: tuple[str, ...]
    subjects: tuple[str, ...] = ()

    def prompts(self) -> Iterator[tuple[str, str | None, str]]:
        """Class, subject and prompt, in a fixed order."""
        for label, subject, template in product(self.classes, self.subjects or (None,), self.templates):
            yield label, subject, _sentence(template, label, subject)

    def fault(self) -> str | None:
        """What is wrong with a template, for an error; None where nothing is."""
        for template in self.templates:
            if "{}" not in template or ("{subject}" in template) != bool(self.subjects):
                both = "'{}' for the class and '{subject}' for the subject" if self.subjects else "'{}' for the class"
                return f"expected {both}, got {template!r}"
        return None


def _sentence(template: str, label: str, subject: str | None) -> str:
    if subject is None:
        return fill(template, label)
    about_subject = fill(template.replace("{}", "\0").replace("{subject}", "{}"), subject)
    return fill(about_subject.replace("\0", "{}"), label)
