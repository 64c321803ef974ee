"""Two groups of ranks (0; 1 and 2): the same labels and the same exceptions on all of a group."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from asi_library.build import SPECIES_DIR
from mpi4py import MPI
from reference_cases import ASI_ELEMENTS, asi_control, ethanol, silicon, water

from fhi_al.atoms.structure import Structure
from fhi_al.errors import InputError, UnconvergedError
from fhi_al.reference.asi import AsiEngine
from fhi_al.settings.reference import AsiSettings
from fhi_al.testing import check_engine

library, folder = Path(sys.argv[1]), Path(sys.argv[2])
world = MPI.COMM_WORLD
group = world.Split(int(world.rank > 0))
directory = folder / f"group_{int(world.rank > 0)}"
directory.mkdir(exist_ok=True)
control = asi_control("toy_unconverged_below 0.8")


def settings_for(library: Path) -> AsiSettings:
    return AsiSettings.model_construct(library=library, species_dir=SPECIES_DIR)


def start(library: Path) -> AsiEngine:
    return AsiEngine(settings_for(library), control, ASI_ELEMENTS, group, directory)


# One rank that can't have the library stops all of its group, and none of them hangs.
try:
    start(library if world.rank != 2 else Path("/nowhere.so"))
    refused = False
except InputError:
    refused = True
assert refused == (world.rank > 0), world.rank

engine = start(library)
digest = AsiEngine.digest(settings_for(library), control, ASI_ELEMENTS)
check_engine(
    engine,
    [ethanol(), silicon(), water()],
    digest,
    step=1e-3,
    force_tolerance=1e-4,
    stress_tolerance=1e-6,
)
close = water()
try:
    engine.label(Structure(close.numbers, close.positions * 0.7))
    raise AssertionError("an unconverged SCF passed")
except UnconvergedError:
    pass

label = engine.label(silicon())
for other in group.allgather(label):
    assert other.energy == label.energy
    assert np.array_equal(other.forces, label.forces)
    assert np.array_equal(other.stress, label.stress)
    assert other.provenance["ranks"] == group.size
engine.close()
if world.rank == 2:
    print(repr(label.energy), repr(float(label.forces[0, 0])))
