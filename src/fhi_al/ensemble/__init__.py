"""The committee of MACE models: building, predicting, training, exporting."""

import contextlib as _contextlib
import io as _io

# Imported here first, as mace prints a line about an optional package of its own.
with _contextlib.redirect_stdout(_io.StringIO()):
    import mace.tools.cg as _cg  # noqa: F401
