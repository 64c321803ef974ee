"""`python -m fhi_al` is `FHI_AL`."""

import sys

from fhi_al.cli import run

sys.exit(run())
