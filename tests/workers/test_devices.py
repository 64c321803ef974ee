"""The device of an ML rank. The GPUs are make-believe: what is asked of torch is not."""

from __future__ import annotations

import pytest
import torch
import yaml

from fhi_al.errors import InputError
from fhi_al.settings import Inputs, load_inputs
from fhi_al.workers.crew import choose_device

WATER = "atom 0 0 0.119 O\natom 0 0.763 -0.477 H\natom 0 -0.763 -0.477 H\n"


@pytest.fixture
def inputs(tmp_path, request) -> Inputs:
    mace = {"MISC": {"device": getattr(request, "param", "auto")}}
    (tmp_path / "mace_settings.yaml").write_text(yaml.safe_dump(mace))
    (tmp_path / "active_learning_settings.yaml").write_text("REFERENCE: {engine: xtb}\n")
    (tmp_path / "geometry.in").write_text(WATER)
    return load_inputs(tmp_path)


@pytest.fixture
def current(monkeypatch) -> list[str]:
    """Makes four GPUs visible; gets those that became the current one."""
    chosen: list[str] = []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    return chosen


@pytest.mark.parametrize("inputs", ["auto", "cuda"], indirect=True)
def test_one_gpu_a_rank_by_its_place_on_the_node(inputs, current):
    found = [choose_device(inputs, local) for local in range(6)]
    assert found == ["cuda:0", "cuda:1", "cuda:2", "cuda:3", "cuda:0", "cuda:1"]
    assert current == found


@pytest.mark.parametrize("inputs", ["cpu"], indirect=True)
def test_no_gpu_where_none_is_wanted(inputs, current):
    assert choose_device(inputs, 0) == "cpu"
    assert not current


@pytest.mark.parametrize("inputs", ["auto", "cuda"], indirect=True)
def test_no_gpu_where_torch_finds_none(inputs, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    if inputs.mace.misc.device == "auto":
        assert choose_device(inputs, 0) == "cpu"
    else:
        with pytest.raises(InputError, match=r"MISC\.device: cuda"):
            choose_device(inputs, 0)
