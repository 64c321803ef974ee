"""Energies of isolated atoms: every spin state is tried, the lowest energy wins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from fhi_al.procedures.procedure import Stage
from fhi_al.procedures.state import State
from fhi_al.procedures.stop import Tally
from fhi_al.record.effects import Calculate, Effect, Isolate
from fhi_al.record.events import Event, Isolated, Labelled, LabelRejected


@dataclass
class AtomsState:
    """Isolated atoms on their way to reference energies.

    Attributes:
        spins: key -> (element, unpaired electrons); None before the atoms are written.
        energies: (element, unpaired electrons) -> eV, of those that converged.
    """

    spins: dict[str, tuple[str, int]] | None = None
    energies: dict[tuple[str, int], float] = field(default_factory=dict)


class AtomicEnergiesStage(Stage[AtomsState]):
    """The reference's energies of the isolated atoms."""

    def needed(self, state: State) -> bool:
        """Where the settings leave them to the reference."""
        return state.rules.auto_atomic_energies

    def begin(self, state: State) -> AtomsState:
        """No atom is written yet."""
        return AtomsState()

    def step(self, state: State, own: AtomsState, event: Event) -> None:
        """Take an event into the state."""
        if isinstance(event, Isolated):
            own.spins = {key: (element, unpaired) for element, unpaired, key in event.atoms}
            state.books.apart.update(own.spins)
            if event.known:
                state.books.atomic_energies = dict(event.known)
        elif isinstance(event, Labelled) and own.spins and event.key in own.spins:
            own.energies[own.spins[event.key]] = event.energy
        elif not (isinstance(event, LabelRejected) and own.spins and event.key in own.spins):
            return
        if own.spins and all(key in state.books.outcomes for key in own.spins):
            _conclude(state, own)

    def wanted(self, state: State, own: AtomsState) -> list[Effect]:
        """What should be running now."""
        if own.spins is None:
            return [Isolate(id="isolate")]
        return [
            Calculate(
                id=f"label-{key}", key=key, purpose="atom", composition=f"{element} {unpaired}"
            )
            for key, (element, unpaired) in own.spins.items()
            if key not in state.books.outcomes
        ]

    def settled(self, state: State, own: AtomsState) -> bool:
        """Whether the energies are known."""
        return state.books.atomic_energies is not None

    def name_of(self, own: AtomsState, key: str) -> str | None:
        """Element and spin."""
        if not own.spins or key not in own.spins:
            return None
        element, unpaired = own.spins[key]
        return f"{element} with {unpaired} unpaired electrons"

    def structures(self, state: State, own: AtomsState) -> Iterator[str]:
        """Atoms without an energy."""
        return (key for key in own.spins or () if key not in state.books.outcomes)

    def progress(self, state: State, own: AtomsState) -> dict[str, Tally]:
        """Atoms that have an outcome."""
        if not own.spins:
            return {}
        done = sum(key in state.books.outcomes for key in own.spins)
        return {"isolated atoms": Tally(done, len(own.spins))}

    def resources(self, state: State) -> frozenset[str]:
        """The pretrained model that knows them, if the reference is one."""
        return frozenset({"atoms"})


def _conclude(state: State, own: AtomsState) -> None:
    lowest: dict[str, float] = {}
    for (element, _), energy in own.energies.items():
        lowest[element] = min(energy, lowest.get(element, energy))
    tried = {element for element, _ in (own.spins or {}).values()}
    if missing := sorted(tried - set(lowest)):
        state.books.failure = (
            f"no spin state of the isolated atom {', '.join(missing)} could be computed; "
            "the log says why. Give the energies by hand in mace_settings.yaml: "
            "ARCHITECTURE.atomic_energies, or leave that key out to fit them to the data"
        )
    else:
        state.books.atomic_energies = lowest


class LoneAtomicEnergiesStage(AtomicEnergiesStage):
    """The same for their own sake."""

    def needed(self, state: State) -> bool:
        """Whatever the settings say."""
        return True


_ABOUT = (
    "atomic_energies",
    "Energies of the isolated atoms",
    "atomic_energies.log",
    "atomic energies",
)
ATOMIC_ENERGIES = AtomicEnergiesStage(*_ABOUT)
ATOMIC_ENERGIES_ALONE = LoneAtomicEnergiesStage(*_ABOUT)
