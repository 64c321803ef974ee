"""Which set a new label belongs to."""

from __future__ import annotations

from typing import Literal


def next_split(n_valid: int, n_added: int, valid_ratio: float) -> Literal["train", "valid"]:
    """Decide on training or validation set.

    Args:
        n_valid: labels in the validation set so far.
        n_added: labels in both sets so far.
        valid_ratio: fraction of all labels that validates.

    Source: DESIGN, "The physics, exactly".
    """
    return "valid" if n_valid < valid_ratio * n_added else "train"
