"""A run folder with real labels and tiny models."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from ensemble_runs import ACTIVE, DIGEST, TINY, geometry_in, merged, molecules

from fhi_al.atoms.structure import Label
from fhi_al.ensemble.architecture import ModelSpec, build_model
from fhi_al.folder.run_folder import RunFolder
from fhi_al.settings import load_inputs


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., RunFolder]:
    """Makes a run folder: `make_folder(mace settings, al settings, labels=...)`."""

    def make(
        mace: dict[str, dict[str, Any]] | None = None,
        active: dict[str, dict[str, Any]] | None = None,
        labels: tuple[Label, ...] | None = None,
        name: str = "run",
        control: str | None = None,
    ) -> RunFolder:
        labels = molecules() if labels is None else labels
        directory = tmp_path / name
        directory.mkdir()
        (directory / "mace_settings.yaml").write_text(yaml.safe_dump(merged(TINY, mace or {})))
        (directory / "active_learning_settings.yaml").write_text(
            yaml.safe_dump(merged(ACTIVE, active or {}))
        )
        (directory / "geometry.in").write_text(geometry_in(labels[0].structure.to_atoms()))
        if control is not None:
            (directory / "control.in").write_text(control)
        folder = RunFolder(load_inputs(directory), DIGEST)
        for item in labels:
            folder.labels.put(item, DIGEST)
        return folder

    return make


@pytest.fixture(autouse=True)
def models_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hand out copies of models that a test before had built: building one takes half a second."""

    def copied(spec: ModelSpec, seed: int = 0) -> torch.nn.Module:
        key = repr(spec), seed
        if key not in _built:
            _built[key] = build_model(spec, seed)
        return deepcopy(_built[key])

    monkeypatch.setattr("fhi_al.ensemble.member.build_model", copied)


_built: dict[tuple[str, int], torch.nn.Module] = {}
