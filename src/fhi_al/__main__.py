"""`python -m fhi_al` is `FHI_AL`."""

import sys

from fhi_al.cli.run import whole

sys.exit(whole())
