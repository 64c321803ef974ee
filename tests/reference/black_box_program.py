"""A process whose library ends it in one of many ways, while a structure is in work or not."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

from fhi_al.mpi.world import world
from fhi_al.reference.black_box import BlackBox

folder, how = Path(sys.argv[1]), sys.argv[2]
box = BlackBox(folder, "rank0")
library = ctypes.CDLL(None)
with box.recording("first"):
    os.write(2, b"a warning\n")
if how == "late exit":
    library.exit(3)
with box.recording("second"):
    os.write(2, b"the last words\n")
    if how == "segmentation fault":
        ctypes.string_at(0)
    elif how == "abort":
        library.abort()
    elif how == "exit":
        library.exit(3)
    elif how == "MPI_Abort":
        world()  # prepares the environment
        from mpi4py import MPI

        MPI.COMM_WORLD.Abort(1)
    elif how == "exception":
        raise ValueError("told to")
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "terminate":
        os.kill(os.getpid(), signal.SIGTERM)
