"""What libraries say to their developers: ignored for a while, and heard again."""

import logging
import subprocess
import sys
import warnings

import pytest

from fhi_al.record.hush import hushed


def test_warnings_are_ignored_for_a_while():
    with hushed():
        warnings.warn("of a library", UserWarning, stacklevel=1)
    with pytest.warns(UserWarning, match="afterwards"):
        warnings.warn("afterwards", UserWarning, stacklevel=1)


@pytest.mark.parametrize("logs", [False, True])
def test_what_is_logged_is_ignored_where_asked(caplog, logs):
    with hushed(logs=logs):
        logging.getLogger("library").warning("within")
        logging.getLogger("library").error("trouble")
    logging.getLogger("library").warning("afterwards")
    within = [] if logs else ["within"]
    assert caplog.messages == [*within, "trouble", "afterwards"]


@pytest.mark.parametrize(("options", "heard"), [([], False), (["-W", "default"], True)])
def test_who_asks_python_for_warnings_gets_them(options, heard):
    program = (
        "import warnings; from fhi_al.record.hush import hush_warnings; hush_warnings(); "
        "warnings.warn('of a library')"
    )
    done = subprocess.run(
        [sys.executable, *options, "-c", program], capture_output=True, text=True, check=True
    )
    assert ("of a library" in done.stderr) == heard
