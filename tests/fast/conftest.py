"""A cache of compiled code for each test."""

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FHI_AL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
