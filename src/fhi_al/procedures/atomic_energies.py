"""Energies of isolated atoms: every spin state is tried, the lowest energy wins."""

from __future__ import annotations

from fhi_al.procedures.state import State
from fhi_al.record.effects import Calculate, Effect, Isolate
from fhi_al.record.events import Event, Isolated, Labelled, LabelRejected


def step(state: State, event: Event) -> None:
    """Take an event into the state."""
    atoms = state.atoms
    if isinstance(event, Isolated):
        atoms.spins = {key: (element, unpaired) for element, unpaired, key in event.atoms}
        if event.known:
            state.atomic_energies = dict(event.known)
    elif isinstance(event, Labelled) and atoms.spins and event.key in atoms.spins:
        atoms.energies[atoms.spins[event.key]] = event.energy
    elif not (isinstance(event, LabelRejected) and atoms.spins and event.key in atoms.spins):
        return
    if atoms.spins and all(key in state.outcomes for key in atoms.spins):
        _conclude(state)


def _conclude(state: State) -> None:
    lowest: dict[str, float] = {}
    for (element, _), energy in state.atoms.energies.items():
        lowest[element] = min(energy, lowest.get(element, energy))
    tried = {element for element, _ in (state.atoms.spins or {}).values()}
    if missing := sorted(tried - set(lowest)):
        state.failure = (
            f"no spin state of the isolated atom {', '.join(missing)} could be computed; "
            "the log says why. Give the energies by hand in mace_settings.yaml: "
            "ARCHITECTURE.atomic_energies, or leave that key out to fit them to the data"
        )
    else:
        state.atomic_energies = lowest


def wanted(state: State) -> list[Effect]:
    """What should be running now."""
    if state.atoms.spins is None:
        return [Isolate(id="isolate")]
    return [
        Calculate(id=f"label-{key}", key=key, purpose="atom", composition=f"{element} {unpaired}")
        for key, (element, unpaired) in state.atoms.spins.items()
        if key not in state.outcomes
    ]
