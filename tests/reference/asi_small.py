"""A rank that only drives a library: no torch, and within 300 MB."""

from __future__ import annotations

import sys
from pathlib import Path

from asi_library.build import SPECIES_DIR
from reference_cases import ASI_ELEMENTS, asi_control, water

from fhi_al.reference.asi import AsiEngine
from fhi_al.settings.reference import AsiSettings

library, folder = Path(sys.argv[1]), Path(sys.argv[2])
settings = AsiSettings.model_construct(library=library, species_dir=SPECIES_DIR)
engine = AsiEngine(settings, asi_control(), ASI_ELEMENTS, None, folder)
engine.label(water())
engine.close()
# Not ru_maxrss, which starts with the size of the process that this one was forked from.
status = Path("/proc/self/status").read_text().split()
peak = int(status[status.index("VmHWM:") + 1])
assert peak < 300_000, f"{peak} kB"
print("torch" if "torch" in sys.modules else "no torch")
