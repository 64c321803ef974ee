from __future__ import annotations

import sys
from pathlib import Path

# The commands are started as in the tests of the commands.
sys.path.insert(0, str(Path(__file__).parents[1] / "cli"))
