"""Whatever stands in the settings is loaded, or refused in words."""

import contextlib

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from input_texts import manual_keys

from fhi_al.errors import InputError
from fhi_al.settings import load_inputs

NAMES = sorted({name for _, _, name in manual_keys()} | {"engine", "threshold_factor", "test_set"})
SECTIONS = ["GENERAL", "ARCHITECTURE", "TRAINING", "MISC", "ACTIVE_LEARNING", "MD", "REFERENCE"]
scalar = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["xtb", "asi", "auto", "nvt", "1e-3", "~", "$X", "{", "[1, 2]"])
    | st.dates()
)
value = st.recursive(
    scalar, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(scalar, inner, max_size=3)
)
document = st.dictionaries(
    st.sampled_from(SECTIONS) | scalar,
    st.dictionaries(st.sampled_from(NAMES) | scalar, value, max_size=4) | value,
    max_size=4,
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(al=document.map(yaml.safe_dump) | st.text(), mace=document.map(yaml.safe_dump) | st.text())
def test_any_text_is_loaded_or_refused(folder, al, mace):
    directory = folder()
    (directory / "active_learning_settings.yaml").write_bytes(al.encode("utf-8", "replace"))
    (directory / "mace_settings.yaml").write_bytes(mace.encode("utf-8", "replace"))
    with contextlib.suppress(InputError):
        assert load_inputs(directory).al.reference is not None
