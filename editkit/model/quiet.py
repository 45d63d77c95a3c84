"""Keep the libraries' own progress bars and warnings out of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars while a model is read: it takes a second."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    both = (diffusers_logging, transformers_logging)
    for one in both:
        one.disable_progress_bar()
    try:
        yield
    finally:
        for one in both:
            one.enable_progress_bar()


@contextmanager
def errors_only() -> Iterator[None]:
    """No warnings of diffusers and transformers."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    both = [(one, one.get_verbosity()) for one in (diffusers_logging, transformers_logging)]
    for one, _ in both:
        one.set_verbosity_error()
    try:
        yield
    finally:
        for one, before in both:
            one.set_verbosity(before)
