"""What commands go through, one after the other in the same folder."""

from __future__ import annotations

import itertools

import pytest

from fhi_al.procedures.pipelines import PIPELINES
from fhi_al.procedures.procedure import Stage
from fhi_al.procedures.run import finished, step, unfinished_before, wanted
from fhi_al.procedures.state import State
from fhi_al.record.effects import Import
from fhi_al.record.events import ALL_MEMBERS, Entry, Event, Imported, Opened
from fhi_al.workers.simulated import SimulatedWorker, simulated_rules


def opened(goal: str, **changes: object) -> Opened:
    rules = simulated_rules(**changes)
    return Opened(goal, rules.to_json(), "digest", "0", 3, ("H", "O"), "host", 0.0)


class Commands:
    """Commands in one folder, one after the other.

    Attributes:
        state: after the last of them.
    """

    state: State | None = None

    def run(self, goal: str, most: int = 10_000, **changes: object) -> list[str]:
        """The stages that a command was in."""
        state = step(self.state, opened(goal, **changes))
        worker = SimulatedWorker(state.rules)
        stages = [state.stage]
        for _ in range(most):
            if finished(state):
                break
            effect = wanted(state)[0]
            event: Event = worker.answer(effect)
            if isinstance(effect, Import):
                entries = tuple(Entry(str(n), ALL_MEMBERS, "train") for n in range(4))
                event = Imported(effect.id, None, entries, ())
            state = step(state, event)
            if state.stage != stages[-1]:
                stages.append(state.stage)
        self.state = state
        return stages


INITIAL = ["initial_dataset"]
LEARNING = ["active_learning", "convergence", "done"]


def test_commands_go_on_where_others_ended():
    folder = Commands()
    assert folder.run("initial_dataset", converge_initial=True) == [
        *INITIAL,
        "converge_initial",
        "done",
    ]
    assert folder.run("active_learning", converge_initial=True) == LEARNING
    assert folder.run("run", converge_initial=True) == ["done"]
    assert folder.run("initial_dataset", converge_initial=True) == ["done"]


def test_the_whole_run_goes_through_all_that_is_needed():
    assert Commands().run("run", auto_atomic_energies=True) == [
        "atomic_energies",
        *INITIAL,
        *LEARNING,
    ]
    assert Commands().run("run", converge_al=False) == [*INITIAL, "active_learning", "done"]


def test_data_of_the_users_take_the_place_of_an_initial_dataset():
    folder = Commands()
    assert folder.run("active_learning") == ["import", "converge_initial", *LEARNING]
    assert folder.run("initial_dataset") == ["done"]


def test_what_an_import_has_begun_any_command_goes_on_with():
    folder = Commands()
    folder.run("active_learning", most=0)
    assert folder.state.stage == "import"
    assert folder.run("run") == ["import", "converge_initial", *LEARNING]


def test_active_learning_waits_for_an_initial_dataset_that_was_begun():
    folder = Commands()
    folder.run("run", most=3)
    first = unfinished_before(folder.state, "active_learning")
    assert first is not None
    assert first.command == "FHI_AL-initial-ds"
    assert unfinished_before(folder.state, "run") is None
    # Its own beginning is no obstacle.
    folder = Commands()
    folder.run("active_learning", most=1, auto_atomic_energies=True)
    assert unfinished_before(folder.state, "active_learning") is None


def test_an_unknown_procedure_is_no_state():
    with pytest.raises(ValueError, match="unknown procedure 'nothing'"):
        step(None, opened("nothing"))


def test_stages_have_names_of_their_own_and_words():
    stages: dict[str, Stage] = {}
    for name, procedure in PIPELINES.items():
        assert procedure.name == name
        assert procedure.command.startswith("FHI_AL")
        names = [stage.name for stage in procedure.stages]
        assert len(names) == len(set(names))
        for stage in procedure.stages:
            assert stage.title
            assert stage.log_file.endswith(".log")
            other = stages.setdefault(stage.name, stage)
            assert (other.title, other.log_file) == (stage.title, stage.log_file)
    assert len({stage.words for stage in stages.values()}) == len(stages)
    for one, other in itertools.permutations(PIPELINES.values(), 2):
        # The order of two stages is the same wherever both are gone through.
        both = [stage.name for stage in one.stages if other.stage(stage.name)]
        assert both == [stage.name for stage in other.stages if one.stage(stage.name)]


def test_data_may_arrive_at_any_time_and_never_replaces_trained_models():
    folder = Commands()
    folder.run("run", most=40)
    state = folder.state
    assert state is not None
    weights, sizes = state.books.weights, list(state.books.train_sizes)
    assert weights is not None
    known = state.books.entries[0]
    new = Entry("brought", ALL_MEMBERS, "train")
    state = step(state, Imported("import-1", "theirs", (known, new), ("theirs.xyz",)))
    assert state.books.weights == weights
    assert state.books.train_sizes == [size + 1 for size in sizes]
    assert [entry.key for entry in state.books.entries].count(known.key) == 1
    # What is wanted of the run goes on as if nothing had come.
    assert folder.run("run")[-1] == "done"
