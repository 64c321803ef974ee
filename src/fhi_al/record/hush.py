"""Keeps what libraries say to their developers away from users."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


def hush_warnings() -> None:
    """Ignore the warnings of libraries from now on, unless Python was told what to do with them.

    Ours are messages in the log.
    """
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


@contextmanager
def hushed(*, logs: bool = False) -> Iterator[None]:
    """Ignore warnings for a while.

    Args:
        logs: whether to ignore what is logged, too, up to warnings; ours included.
    """
    if logs:
        logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if logs:
            logging.disable(logging.NOTSET)
