"""What a run remembers is looked through once, and garbage among it is collected first."""

from __future__ import annotations

import gc
import weakref
from contextlib import closing

from fhi_al.run.remembered import OFTEN, Remembered


class Thing:
    """Can be in a cycle, and watched."""


def test_garbage_goes_and_the_rest_is_left_alone():
    before = gc.get_freeze_count()
    kept, lost = Thing(), Thing()
    lost.itself = lost
    watched = weakref.ref(lost)
    del lost
    with closing(Remembered()) as remembered:
        remembered.note(OFTEN - 1)
        assert gc.get_freeze_count() == before
        remembered.note(1)
        assert watched() is None
        assert gc.get_freeze_count() > before
        assert not any(thing is kept for thing in gc.get_objects())
        remembered.note(1)
    assert gc.get_freeze_count() == 0
    assert any(thing is kept for thing in gc.get_objects())
