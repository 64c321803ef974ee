"""Every kind of bad input, through the installed commands: one message, exit code 2, no traces."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from asi_library.build import SPECIES_DIR, compile_library
from cli_runs import AL, WATER, call, contents, write_inputs

CONTROL = "xc pbe\nrelativistic none\n"
TIMEOUT_S = 60


@dataclass(frozen=True)
class Case:
    """One mistake.

    Attributes:
        says: words that the message must have.
        mace: changes of mace_settings.yaml, by section.
        al: changes of active_learning_settings.yaml, by section.
        geometry: geometry.in.
        control: control.in, or None for none.
        without: an input file that is not there.
        variables: of the environment; {folder} is an empty one.
        mpi: whether it is run with several ranks as well.
    """

    says: tuple[str, ...]
    mace: Mapping[str, Any] = field(default_factory=dict)
    al: Mapping[str, Any] = field(default_factory=dict)
    geometry: str = WATER
    control: str | None = None
    without: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    mpi: bool = False


def asi(**changes: Any) -> dict[str, Any]:
    """An ASI engine, in the folder of the run."""
    reference = {"library": "empty.so", "species_dir": str(SPECIES_DIR), **changes}
    return {"REFERENCE": {"engine": "asi", **reference}}


def al(**changes: Any) -> dict[str, Any]:
    return {"ACTIVE_LEARNING": changes}


CASES = {
    "no geometry.in": Case(("geometry.in", "missing"), without="geometry.in", mpi=True),
    "no mace_settings.yaml": Case(("mace_settings.yaml",), without="mace_settings.yaml"),
    "no active_learning_settings.yaml": Case(
        ("active_learning_settings.yaml",), without="active_learning_settings.yaml"
    ),
    "no control.in, which asi needs": Case(("control.in",), al=asi()),
    "misspelt key": Case(
        ("active_learning_settings.yaml", "desired_acc", "did you mean"),
        al=al(desired_ac=0.1),
    ),
    "misspelt section": Case(("mace_settings.yaml", "TRAINING"), mace={"TRAINNG": {"lr": 0.1}}),
    "wrong type": Case(("ensemble_size", "several"), al=al(ensemble_size="several")),
    "out of range": Case(("valid_ratio", "1.5"), al=al(valid_ratio=1.5)),
    "unknown species": Case(("geometry.in", "Xx"), geometry=WATER + "atom 2 2 2 Xx\n"),
    "missing species file": Case(
        ("18_Ar_default",), al=asi(), geometry="atom 0 0 0 Ar\natom 0 0 4 Ar\n", control=CONTROL
    ),
    "missing library": Case(("nowhere.so",), al=asi(library="nowhere.so"), control=CONTROL),
    "unreadable library": Case(
        ("text.so", "can't be loaded"), al=asi(library="text.so"), control=CONTROL, mpi=True
    ),
    "library without the ASI symbols": Case(
        ("empty.so", "ASI_init"), al=asi(library="empty.so"), control=CONTROL, mpi=True
    ),
    "atoms unknown to the engine": Case(
        ("geometry.in", "Fr", "GFN2-xTB"), geometry="atom 0 0 0 Fr\natom 0 0 2 H\n", mpi=True
    ),
    "calculator that is not there": Case(
        ("no_such_package.Calculator",),
        al={"REFERENCE": {"engine": "ase", "calculator": "no_such_package.Calculator"}},
    ),
    "results where no folder can be": Case(
        ("geometry.in/results",), mace={"GENERAL": {"results_dir": "geometry.in/results"}}, mpi=True
    ),
    "log where the system lets nobody write": Case(
        ("/proc/log",), mace={"GENERAL": {"log_dir": "/proc/log"}}
    ),
    "GPU where there is none": Case(
        ("mace_settings.yaml", "MISC.device", "cuda"),
        mace={"MISC": {"device": "cuda"}},
        variables={"CUDA_VISIBLE_DEVICES": ""},
        mpi=True,
    ),
    "cuEquivariance without a GPU": Case(
        ("mace_settings.yaml", "MISC.enable_cueq", "on a GPU only"),
        mace={"MISC": {"enable_cueq": True}},
    ),
    "foundation model out of reach": Case(
        ("mace-mp0", "cache", "downloaded"),
        al=al(initial_sampling="mace-mp0"),
        # No cache, and a proxy that nobody answers for.
        variables={
            "HOME": "{folder}",
            "XDG_CACHE_HOME": "{folder}",
            "http_proxy": "http://127.0.0.1:9",
            "https_proxy": "http://127.0.0.1:9",
        },
        mpi=True,
    ),
    "two threshold factors": Case(
        ("c_x", "threshold_factor"), al=al(c_x=0.1, threshold_factor=0.9)
    ),
    "NPT of a molecule": Case(
        ("stat_ensemble", "periodic", "geometry.in", "nvt"), al={"MD": {"stat_ensemble": "NPT"}}
    ),
    "molecular dynamics in control.in": Case(
        ("control.in", "MD_run", "line 2"), control="xc pbe\nMD_run 1.0 NVE 300\n"
    ),
    "several ML ranks on one rank": Case(("ml_ranks", "mpirun"), al={"PARALLEL": {"ml_ranks": 2}}),
    "several groups on one rank": Case(
        ("reference_groups", "mpirun"), al={"PARALLEL": {"reference_groups": 2}}
    ),
}


@pytest.fixture(scope="session")
def empty_library(tmp_path_factory) -> Path:
    """A shared library that has nothing of ASI."""
    folder = tmp_path_factory.mktemp("empty")
    source = folder / "empty.c"
    source.write_text("int nothing(void);\nint nothing(void) { return 0; }\n")
    return compile_library(folder / "empty.so", source)


@pytest.fixture
def check(tmp_path, empty_library):
    """Runs a command on a case and checks all that is the same for all."""

    def check(case: Case, ranks: int | None, command: str = "FHI_AL") -> str:
        folder = write_inputs(
            tmp_path / "run",
            mace=case.mace,
            al=case.al,
            geometry=case.geometry,
            control=case.control,
        )
        (folder / "text.so").write_text("This is no library.\n")
        (folder / "empty.so").write_bytes(empty_library.read_bytes())
        if case.without is not None:
            (folder / case.without).unlink()
        variables = {
            name: text.format(folder=tmp_path / "home") for name, text in case.variables.items()
        }
        before = contents(folder)
        done = call(command, folder, ranks, timeout=TIMEOUT_S, **variables)
        assert done.code == 2, done.text
        assert done.text.count("in the input:") == 1, done.text
        assert done.text.count("\n  - ") == 1, done.text
        assert "Traceback" not in done.text
        for word in case.says:
            assert word in done.text
        after = contents(folder)
        assert {name: after.get(name) for name in before} == before
        assert all(name.endswith(".log") for name in set(after) - set(before))
        return done.text

    return check


@pytest.mark.parametrize("name", CASES)
def test_alone(check, name):
    check(CASES[name], None)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.mpi])
def test_three_ranks(check, name):
    check(CASES[name], 3)


@pytest.mark.parametrize("command", ["FHI_AL-initial-ds", "FHI_AL-al", "FHI_AL-atomic-energies"])
def test_every_command(check, command):
    check(CASES["misspelt key"], None, command)


@pytest.mark.parametrize(
    "parallel", [{"ml_ranks": 3}, {"reference_groups": 3}, {"ml_ranks": 2, "reference_groups": 2}]
)
def test_more_roles_than_ranks(check, parallel):
    check(Case(("PARALLEL", "3"), al={"PARALLEL": parallel}), 3)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission_to_write(tmp_path):
    folder = write_inputs(tmp_path / "run")
    folder.chmod(0o500)
    done = call("FHI_AL", folder)
    assert done.code == 2
    assert "can't be written to" in done.text


def test_all_problems_at_once(tmp_path):
    mistakes = {"desired_acc": -1, "valid_ratio": 2, "num_trajectorys": 3}
    folder = write_inputs(
        tmp_path / "run",
        mace={"TRAINING": {"lr": "fast"}},
        al={**AL, "ACTIVE_LEARNING": mistakes},
        geometry="atom 0 0 0 Xx\n",
    )
    done = call("FHI_AL", folder)
    assert done.code == 2
    assert done.text.startswith("5 problem(s) in the input:")
    for word in (*mistakes, "num_trajectories", "TRAINING.lr", "Xx"):
        assert word in done.text
