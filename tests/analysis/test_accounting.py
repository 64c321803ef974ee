"""Where the time of the ranks went, from journals made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhi_al.analysis.accounting import Intervals, RoleUse, account, commands, shares
from fhi_al.record.events import Closed, Evaluated, Event, Labelled, LabelRejected, Opened, Started
from fhi_al.record.journal import Record
from fhi_al.record.outcome import Place, Work, Worker
from fhi_al.workers.simulated import simulated_rules

ML, ML1 = Place("a", (Worker("ML", 0),), "cuda:0", 1), Place("a", (Worker("ML", 1),), "cuda:1", 1)
IDLE = Place("b", (), "", 1)


def group(number: int, ranks: int = 1) -> list[Place]:
    return [Place("b", (Worker("reference", number),), "cpu", 1)] * ranks


def opened(time: float, *places: Place, startup_s: float = 0.0) -> tuple[float, Event]:
    rules = simulated_rules().to_json()
    return time, Opened("run", rules, "", "0", 3, ("H",), "a", time, startup_s, places)


def labelled(worker: str, began: float, ended: float) -> tuple[float, Event]:
    work = (Work(worker, began, ended, ended - began),)
    return ended, Labelled("label-x", "x", -1.0, ended - began, work=work)


def evaluated(*work: Work) -> tuple[float, Event]:
    return max(w.ended for w in work), Evaluated("evaluate", (), 1.0, work=work)


def closed(time: float) -> tuple[float, Event]:
    return time, Closed("finished", time)


def roles(*timed: tuple[float, Event]) -> dict[str, RoleUse]:
    records = [Record(i, time, event) for i, (time, event) in enumerate(timed)]
    return {use.role: use for use in account(records)}


def test_what_each_role_did_and_waited_for() -> None:
    uses = roles(
        opened(10, ML, *group(0), *group(1), startup_s=2.0),
        (10, Started("evaluate", Worker("ML", 0), "Evaluate")),
        evaluated(Work(Worker("ML", 0), 10, 14, 4)),
        labelled(Worker("reference", 0), 12, 16),
        labelled(Worker("reference", 1), 15, 18),
        closed(20),
    )
    assert uses["ML"].rank_seconds == 12
    assert uses["ML"].busy == {"evaluation": 4}
    # 14 to 18, while the groups work; nobody works from 18 to 20.
    assert uses["ML"].waiting == {"start-up": 2, "labels": 4, "the controller": 2}
    reference = uses["reference"]
    assert reference.rank_seconds == 24
    assert reference.busy == {"labels": 7}
    assert reference.waiting == {
        "start-up": 4,
        "evaluation": 2 + 4,
        "labels of other groups": 2 + 1,
        "the controller": 2 + 2,
    }
    assert sum(reference.busy.values()) + sum(reference.waiting.values()) == 24


def test_all_ranks_of_a_group_count() -> None:
    uses = roles(
        opened(0, ML, *group(0, 3), IDLE), labelled(Worker("reference", 0), 0, 4), closed(10)
    )
    assert uses["reference"].busy == {"labels": 12}
    assert uses["reference"].waiting == {"the controller": 18}
    assert uses["idle"] == RoleUse("idle", 10.0)


def test_ml_ranks_have_their_own_shares() -> None:
    """The leader ends first and waits for the other; a rank without a share waits for both."""
    uses = roles(
        opened(0, ML, ML1, Place("a", (Worker("ML", 2),), "cpu", 1), *group(0)),
        evaluated(Work(Worker("ML", 0), 0, 10, 6), Work(Worker("ML", 1), 1, 10, 9)),
        closed(10),
    )
    assert uses["ML"].busy == {"evaluation": 15}
    assert uses["ML"].waiting == {"other ML ranks": 4 + 1 + 10}
    assert uses["reference"].waiting == {"evaluation": 10}


def test_one_rank_does_one_thing_at_a_time() -> None:
    """A training that lasts from 0 to 10 is interrupted for 4 s of labels."""
    alone = Place("a", (Worker("ML", 0), Worker("reference", 0)), "cpu", 2)
    uses = roles(
        opened(0, alone),
        labelled(Worker("reference", 0), 3, 7),
        evaluated(Work(Worker("ML", 0), 0, 10, 6)),
        closed(10),
    )
    assert uses["ML"].busy == {"evaluation": 6}
    assert uses["ML"].waiting == {"other work on its rank": 4}
    assert uses["reference"].busy == {"labels": 4}
    assert uses["reference"].waiting == {"evaluation": 6}


def test_commands_add_up_and_the_time_between_them_is_nobodys() -> None:
    uses = roles(
        opened(0, ML, *group(0)),
        labelled(Worker("reference", 0), 0, 1),
        opened(100, ML, *group(0), *group(1)),
        (
            102,
            LabelRejected(
                "label-y", "y", "why", 2.0, work=(Work(Worker("reference", 1), 100, 102, 2),)
            ),
        ),
        closed(102),
    )
    assert uses["ML"].rank_seconds == 3
    assert uses["reference"].rank_seconds == 1 + 4
    assert uses["reference"].busy == {"labels": 3}


def test_journals_of_earlier_versions_have_no_accounts() -> None:
    assert roles(opened(0), (1.0, Labelled("label-x", "x", -1.0, 1.0)), closed(2)) == {}
    assert list(roles(opened(0), closed(2), opened(3, ML), closed(5))) == ["ML"]


def test_a_gantt_chart_can_be_drawn() -> None:
    timed = [
        opened(1, ML, *group(0), startup_s=1.0),
        labelled(Worker("reference", 0), 2, 3),
        closed(4),
    ]
    (command,) = commands(Record(i, time, event) for i, (time, event) in enumerate(timed))
    assert (command.began, command.opened, command.ended) == (0, 1, 4)
    (span,) = command.spans
    assert (span.worker, span.kind, span.began, span.ended) == (
        Worker("reference", 0),
        "labels",
        2,
        3,
    )
    assert [place.host for place in command.places] == ["a", "b"]


times = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)), max_size=12)


def seconds(pairs: list[tuple[int, int]]) -> set[int]:
    """The seconds that these (begin, length) cover."""
    return {second for begin, length in pairs for second in range(begin, begin + length)}


def intervals(pairs: list[tuple[int, int]]) -> Intervals:
    return Intervals(np.array([(b, b + n) for b, n in pairs], dtype=float).reshape(-1, 2))


@given(times, times)
def test_intervals_agree_with_counting_seconds(
    a: list[tuple[int, int]], b: list[tuple[int, int]]
) -> None:
    assert intervals(a).seconds == len(seconds(a))
    assert intervals(a).overlap(intervals(b)) == pytest.approx(len(seconds(a) & seconds(b)))
    free = set(range(5, 65)) - seconds(a)
    gaps = intervals(a).gaps(5, 65)
    assert gaps.seconds == len(free)
    assert gaps.overlap(intervals(b)) == pytest.approx(len(free & seconds(b)))


def test_shares_in_words() -> None:
    assert shares({"export": 0.1, "training": 60, "sampling": 40}, 200) == (
        "training 30%, sampling 20%"
    )
    assert shares({"training": 1}, 0) == ""
