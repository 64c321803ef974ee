"""One group labels water and ethanol in turn; how often does its library start?"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

from asi_library.build import SPECIES_DIR
from reference_cases import ASI_ELEMENTS, asi_control, ethanol, water

from fhi_al.atoms.structure import Structure
from fhi_al.handlers.calculate import ReferenceWorker
from fhi_al.procedures.run import step
from fhi_al.record.effects import Effect, Sample
from fhi_al.record.events import Event, Opened, Sampled
from fhi_al.record.journal import Journal
from fhi_al.record.labels import LabelStore, StructureStore
from fhi_al.record.outcome import Worker
from fhi_al.reference.asi import OUTPUT, AsiEngine
from fhi_al.run.controller import Controller
from fhi_al.settings.reference import AsiSettings
from fhi_al.workers.channels import InlineChannel
from fhi_al.workers.simulated import SimulatedWorker, simulated_rules

library, folder, asynchronous = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "overlap"
settings = AsiSettings.model_construct(library=library, species_dir=SPECIES_DIR)
control = asi_control()
engine = AsiEngine(settings, control, ASI_ELEMENTS, None, folder)
digest = AsiEngine.digest(settings, control, ASI_ELEMENTS)
run_folder = SimpleNamespace(
    labels=LabelStore(folder / "labels"),
    structures=StructureStore(folder / "structures"),
    engine_digest=digest,
)


class Sampler(SimulatedWorker):
    """Samples real structures of two compositions, in turn."""

    def answer(self, effect: Effect) -> Event:
        if not isinstance(effect, Sample):
            return super().answer(effect)
        found = []
        for number in range(effect.count):
            molecule = (water, ethanol)[number % 2]()
            moved = molecule.positions * (1 + 1e-3 * number)
            found.append(Structure(molecule.numbers, moved))
        keys = tuple(run_folder.structures.put(structure, digest) for structure in found)
        compositions = tuple(structure.composition for structure in found)
        return Sampled(effect.id, None, keys, 0.0, compositions)


rules = simulated_rules(
    asynchronous=asynchronous, n_samples=6, max_initial_set_size=12, initial_target=1e-9
)
opened = Opened("initial_dataset", rules.to_json(), digest, "0", 3, ("H",), "host", 0.0)
journal = Journal(folder / "journal.jsonl")
journal.append(opened)
worker = ReferenceWorker(run_folder, engine, None)  # type: ignore[arg-type]
channels = [
    InlineChannel(Worker("reference", 0), worker),
    InlineChannel(Worker("ML", 0), Sampler(rules)),
]
controller = Controller(step(None, opened), journal, channels)
controller.run()
engine.close()
print(len(controller.state.books.entries), (folder / OUTPUT).read_text().count("toy_asi starts"))
