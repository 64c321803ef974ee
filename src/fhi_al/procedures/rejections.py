"""Structures that get no label, and labels that don't belong to the set."""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from statistics import median

from fhi_al.procedures.state import Books, State
from fhi_al.record.events import Died, Event, Labelled, LabelRejected, Retried

FEWEST = 3
"""Energies of a composition before any is called an outlier."""

SPREADS = 10.0
"""Standard deviations that an energy may be away from the median in a widely spread set."""

_SD_OF_MAD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""


def judged(state: State, event: Event) -> Event:
    """See whether a label may enter the datasets; an outlier is as good as rejected.

    Args:
        state: before the event; the energies in its books take the label's.
        event: any.

    Returns:
        The event, or, in place of an outlier's `Labelled`, the rejection.
    """
    books = state.books
    if not isinstance(event, Labelled) or event.n_atoms == 0 or event.key in books.apart:
        return event
    energies = books.energies.setdefault(event.formula, [])
    allowed = state.rules.max_energy_deviation_eV_per_atom * event.n_atoms
    reason = outlier(energies, event.energy, allowed)
    # An outlier counts, so that a set that has moved on is not measured by its beginning.
    insort(energies, event.energy)
    if reason is None:
        return event
    return LabelRejected(event.effect, event.key, reason, event.seconds, kind="outlier")


def outlier(energies: Sequence[float], energy: float, allowed: float) -> str | None:
    """Say why an energy can't belong to a set, or None.

    The range is wide on purpose. It is to catch other units and other electronic states, not the
    hot, stretched and compressed structures that active learning is made to find.

    Args:
        energies: of the same composition so far, sorted, in eV.
        energy: to be judged, in eV.
        allowed: distance from the median that is fine in any case, in eV.
    """
    if len(energies) < FEWEST:
        return None
    middle = energies[len(energies) // 2]
    if abs(energy - middle) <= allowed:
        return None
    spread = _SD_OF_MAD * median(abs(other - middle) for other in energies)
    limit = max(allowed, SPREADS * spread)
    if abs(energy - middle) <= limit:
        return None
    return (
        f"the energy of {energy:.3f} eV is {abs(energy - middle):.1f} eV away from the median of "
        f"{len(energies)} labels of this composition, more than {limit:.1f} eV "
        "(max_energy_deviation_eV_per_atom): another electronic state, or other settings?"
    )


def died(state: State, event: Died) -> LabelRejected | None:
    """Count a death of the library.

    Args:
        state: its books take the event.
        event: the death.

    Returns:
        The rejection of a structure that has killed the library often enough, or None.
    """
    books = state.books
    marks = books.deaths.get(event.key, [])
    if event.key in books.outcomes or event.mark in marks:
        return None
    marks = books.deaths[event.key] = [*marks, event.mark]
    if len(marks) < state.rules.max_label_starts:
        return None
    reason = (
        f"the reference library crashed with it {len(marks)} times (max_label_starts), the last "
        f"time by {event.how}: {event.words}"
    )
    return LabelRejected(
        effect=f"label-{event.key}",
        key=event.key,
        reason=reason,
        seconds=0.0,
        kind="library death",
        attempts=len(marks),
    )


def retry(books: Books, event: Retried) -> None:
    """Forget the rejections of structures, so that they are wanted again.

    Args:
        books: before the event.
        event: names the structures.
    """
    for key in event.keys:
        if books.rejected.pop(key, None) is not None and key not in books.apart:
            del books.outcomes[key]
            books.n_rejected -= 1
            books.retries[key] = None
