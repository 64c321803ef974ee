"""How the books are kept: what every event means, whatever the procedure."""

from __future__ import annotations

from fhi_al.procedures.rejections import died, judged, retry
from fhi_al.procedures.state import Origin, Rejection, State
from fhi_al.procedures.stop import too_many_failures
from fhi_al.record.events import (
    Advanced,
    Died,
    Evaluated,
    Event,
    Exported,
    Imported,
    Labelled,
    LabelRejected,
    Retried,
    Started,
    Trained,
)
from fhi_al.record.outcome import Outcome


def entered(state: State, event: Event) -> Event | None:
    """Take an event into the books.

    Args:
        state: its books change.
        event: any but `Opened`.

    Returns:
        What the stage is to take: the event, or the rejection that it comes to; None: nothing.
    """
    books = state.books
    if isinstance(event, Started):
        books.in_flight[event.effect] = event
        return None
    if isinstance(event, Retried):
        retry(books, event)
        return None
    if isinstance(event, Died):
        return died(state, event)
    if not isinstance(event, Outcome):
        return None
    books.in_flight.pop(event.effect, None)
    return judged(state, event)


def count(state: State, event: Event, origin: Origin) -> None:
    """Count an outcome.

    Args:
        state: its books change.
        event: that `entered` has returned.
        origin: where the structure that it is about comes from.
    """
    books = state.books
    if isinstance(event, Labelled | LabelRejected):
        books.deaths.pop(event.key, None)
    if isinstance(event, Labelled):
        books.outcomes[event.key] = True
    elif isinstance(event, LabelRejected):
        books.outcomes[event.key] = False
        books.n_rejected += 1
        books.rejected[event.key] = Rejection(event.kind, event.reason, event.attempts, origin)
        books.failure = too_many_failures(state)
    elif isinstance(event, Trained):
        books.n_trained += 1
        books.weights, books.members = event.weights, event.members
    elif isinstance(event, Advanced):
        books.n_advanced += 1
    elif isinstance(event, Evaluated):
        books.errors, books.evaluated = event.errors, books.weights
    elif isinstance(event, Exported):
        books.exported[state.stage] = event.files
    elif isinstance(event, Imported):
        books.imported = True
        # Data may arrive at any time; models only where there are none yet.
        if books.weights is None:
            books.weights = event.weights
        for entry in event.entries:
            if entry.key not in books.outcomes:
                books.outcomes[entry.key] = True
                books.add(entry)
