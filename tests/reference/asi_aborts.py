"""What no engine of ours would do: the toy library aborts, like a real code."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from asi_library.build import SPECIES_DIR
from mpi4py import MPI
from reference_cases import asi_control, silicon, water

from fhi_al.reference.asi import AsiEngine
from fhi_al.settings.reference import AsiSettings

library, folder, case = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
rank = MPI.COMM_WORLD.rank
control = asi_control("toy_abort_below 1.5" if case == "abort" else "")
structure = water()
if case == "keyword":
    control = replace(control, text=control.text + "relax_geometry bfgs 0.01\n")
if case == "species":
    structure = silicon()
    control = replace(control, species={"Si": "claimed, but not in the text"})
if case == "ranks":
    structure = replace(structure, positions=structure.positions + 1e-12 * rank)
settings = AsiSettings.model_construct(library=library, species_dir=SPECIES_DIR)
AsiEngine(settings, control, ["H", "O"], MPI.COMM_WORLD, folder).label(structure)
print("survived")
