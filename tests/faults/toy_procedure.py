"""A procedure of its own: shake the geometry, label what comes of it, stop."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

from fhi_al.md.perturb import perturbed
from fhi_al.procedures.pipelines import PIPELINES
from fhi_al.procedures.procedure import Procedure, Stage
from fhi_al.procedures.state import State
from fhi_al.record.effects import Calculate, Effect
from fhi_al.record.events import Event
from fhi_al.record.kinds import KINDS, Kind
from fhi_al.record.outcome import Outcome


@dataclass(frozen=True)
class Shake:
    id: str
    count: int


@dataclass(frozen=True, slots=True)
class Shaken(Outcome):
    keys: tuple[str, ...]


def shake(worker: Any, effect: Shake) -> Generator[None, None, Shaken]:
    folder, keys = worker.folder, []
    for number in range(effect.count):
        structure = perturbed(folder.inputs.structure, 1, number, 0.05, 0.0)
        keys.append(folder.structures.put(structure, folder.engine_digest))
        yield
    return Shaken(effect.id, tuple(keys))


class Shaking(Stage[list[str]]):
    def begin(self, state: State) -> list[str]:
        return []

    def step(self, state: State, own: list[str], event: Event) -> None:
        own += event.keys if isinstance(event, Shaken) else ()

    def wanted(self, state: State, own: list[str]) -> list[Effect]:
        asked: list[Any] = [] if own else [Shake("shake", state.rules.max_set_size)]
        return asked + [Calculate(f"label-{k}", k, "dataset") for k in self.structures(state, own)]

    def settled(self, state: State, own: list[str]) -> bool:
        return bool(own) and not any(self.structures(state, own))

    def structures(self, state: State, own: list[str]) -> Iterator[str]:
        return (key for key in own if key not in state.books.outcomes)


def register(set_item: Any = lambda table, name, entry: table.update({name: entry})) -> None:
    stage = Shaking("shaking", "Shaking the geometry", "shaking.log", "shaking")
    set_item(PIPELINES, "shake", Procedure("shake", "the shaking", (stage,), command="shake"))
    set_item(KINDS, Shake, Kind("ML", "shaking", (Shaken,), "toy_procedure:shake", None))
