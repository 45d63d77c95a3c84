"""Keep the libraries' own progress bars and warnings out of ours."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars while a model is read: it takes a second."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    both = (diffusers_logging, transformers_logging)
    for logging in both:
        logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="`FluxPosEmbed` is deprecated")  # Chroma's own code calls it
            yield
    finally:
        for logging in both:
            logging.enable_progress_bar()


@contextmanager
def errors_only() -> Iterator[None]:
    """No warnings of diffusers and transformers."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    both = [(logger, logger.get_verbosity()) for logger in (diffusers_logging, transformers_logging)]
    for logger, _ in both:
        logger.set_verbosity_error()
    try:
        yield
    finally:
        for logger, before in both:
            logger.set_verbosity(before)


@contextmanager
def no_talk_of_torch() -> Iterator[None]:
    """No word of torch about norms whose weights are float32 under autocast, which is what autocast is for, nor about
    diffusers' code while it is compiled."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight")
        warnings.filterwarnings("ignore", message="Dynamo detected a call to")
        yield
