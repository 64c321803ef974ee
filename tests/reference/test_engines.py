"""What engines say of themselves is whole, and true as far as it can be tried here."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from asi_library.build import SPECIES_DIR

from fhi_al.atoms.structure import Structure
from fhi_al.errors import EngineError, InputError
from fhi_al.reference.engine import Engine, engine_class
from fhi_al.report.citations import cited, reference
from fhi_al.report.methods import reference_name
from fhi_al.settings.active_learning import ActiveLearning
from fhi_al.settings.control_in import ControlIn, parse_control
from fhi_al.settings.engine import ReferenceSettings
from fhi_al.settings.geometries import Geometry
from fhi_al.settings.reference import (
    ENGINES,
    AseSettings,
    AsiSettings,
    MlffSettings,
    XtbSettings,
)
from fhi_al.settings.settle import engine_problems, engine_warnings

Get = Callable[[str], Any]
TRIALS: dict[str, Callable[[Get], ReferenceSettings]] = {
    "asi": lambda get: AsiSettings(library=get("toy_asi"), species_dir=SPECIES_DIR),
    "xtb": lambda _: XtbSettings(accuracy=0.1),
    "xtb: GFN1": lambda _: XtbSettings(method="GFN1-xTB"),
    "ase: EMT": lambda _: AseSettings(calculator="ase.calculators.emt.EMT"),
    "ase: harmonic": lambda _: AseSettings(
        calculator="reference_calculators.Harmonic",
        charge="total_charge",
        spin="multiplicity_minus_1",
    ),
    "mlff": lambda get: MlffSettings(model=str(get("model")), device="cpu"),
    "mlff: so3lr": lambda _: MlffSettings(model="so3lr", device="cpu"),
}
"""Settings to try, of each engine at least one, made of fixtures."""

NAMED = pytest.mark.parametrize("name", ENGINES)
TRIED = pytest.mark.parametrize("trial", TRIALS, indirect=True)


@pytest.fixture
def model(tmp_path, tiny_models) -> Path:
    path = tmp_path / "teacher.model"
    torch.save(tiny_models[0], path)
    return path


@pytest.fixture
def trial(request) -> ReferenceSettings:
    return TRIALS[request.param](request.getfixturevalue)


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Engine]]:
    """Starts engines for hydrogen and oxygen, one after the other."""
    engines: list[Engine] = []

    def start(settings: ReferenceSettings, control: ControlIn | None = None) -> Engine:
        for engine in engines:
            engine.close()
        kind = engine_class(settings.engine)
        engines.append(kind(settings, control, ["H", "O"], None, tmp_path))
        return engines[-1]

    yield start
    for engine in engines:
        engine.close()


def control_for(settings: ReferenceSettings, text: str = "") -> ControlIn | None:
    """A control.in, with what the toy library needs where that reads it; None where none may be."""
    if settings.reads_control:
        text = f"xc pbe\nrelativistic none\n{text}"
    return parse_control(text + "\n") if text else None


def repeated(water: Structure, pbc: tuple[int, ...], cell: tuple[float, ...]) -> Structure:
    return dataclasses.replace(water, cell=np.diag(cell), pbc=np.array(pbc, dtype=bool))


# --- each entry is whole -----------------------------------------------------------------------


def test_each_engine_is_tried():
    assert {name.partition(":")[0] for name in TRIALS} == set(ENGINES)


@NAMED
def test_entry_settings_and_class_agree(name):
    section, kind = ENGINES[name].section, engine_class(name)
    assert section.model_fields["engine"].default == name
    assert (ENGINES[name].words, ENGINES[name].citations) == (section.title, section.papers)
    for member in ("digest", "atomic_energies", "label", "close"):
        assert callable(getattr(kind, member))
    assert [*inspect.signature(kind).parameters] == [
        "settings",
        "control",
        "elements",
        "comm",
        "directory",
    ]
    assert set(section.history_free) <= set(section.model_fields)
    assert set(section.manual_keys) <= set(ActiveLearning.model_fields)
    assert set(section.manual_keys.values()) <= set(section.model_fields)
    assert section.periodicities <= {0, 1, 2, 3}
    assert 0 in section.periodicities, "isolated atoms are computed"


def test_no_two_engines_are_chosen_by_the_same_keys():
    keys = [frozenset(kind.section.manual_keys) for kind in ENGINES.values()]
    chosen = [key for key in keys if key]
    assert len(set(chosen)) == len(chosen)


def test_asking_imports_no_library():
    script = (
        "import sys\n"
        "from fhi_al.settings.reference import ENGINES\n"
        "light = ('torch', 'mace', 'ase', 'mpi4py', 'fhi_al.reference')\n"
        "print([m for m in light if m in sys.modules])\n"
        "for entry in ENGINES.values(): entry.load()\n"
        "heavy = ('torch', 'mace', 'tblite', 'pyscf', 'asi4py', 'so3krates_torch', 'mpi4py')\n"
        "print([m for m in heavy if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["[]", "[]"]


@TRIED
def test_a_report_tells_what_the_settings_say(trial):
    recorded = {f"REFERENCE.{key}": v for key, v in trial.model_dump(mode="json").items()}
    assert reference_name(recorded) == trial.words
    assert trial.words
    assert set(trial.citations) <= set(ENGINES[trial.engine].citations)
    assert set(trial.citations) <= set(cited(recorded))
    assert reference(recorded).citations == trial.citations
    assert reference({"REFERENCE.engine": "of another version"}) is None


# --- what it says is true ----------------------------------------------------------------------


@TRIED
@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ("charges", "charge 1"),
        ("spins", "spin collinear\nfixed_spin_moment 2\ndefault_initial_moment 1"),
    ],
    ids=["charges", "spins"],
)
def test_charge_and_spin_count_or_are_refused(trial, start, water, said, asked):
    plain, changed = control_for(trial), control_for(trial, asked)
    assert (trial.control_problems(changed, ["H", "O"], False) == []) == getattr(trial, said)
    if getattr(trial, said):
        energies = [start(trial, control).label(water).energy for control in (plain, changed)]
        assert abs(energies[1] - energies[0]) > 0.1


@TRIED
def test_control_in_is_read_as_it_says(trial, start, water):
    kind = engine_class(trial.engine)
    plain, more = control_for(trial, "charge 0"), control_for(trial, "charge 0\nsc_iter_limit 99")
    same = kind.digest(trial, plain, ["H", "O"]) == kind.digest(trial, more, ["H", "O"])
    assert same != trial.reads_control
    if trial.reads_control:
        with pytest.raises(InputError, match=r"control\.in is missing"):
            start(trial, None)
    else:
        assert np.isfinite(start(trial, None).label(water).energy)


@TRIED
@pytest.mark.parametrize("pbc", [(0, 0, 0), (1, 0, 0), (1, 1, 0), (1, 1, 1)], ids=sum)
def test_structures_repeat_as_it_says(trial, start, water, pbc):
    structure = repeated(water, pbc, (4.0, 4.5, 8.0))
    geometry = Geometry("here.xyz", structure)
    problems = engine_problems(trial, None, [geometry])
    warnings = engine_warnings(trial, [geometry])
    engine = start(trial, control_for(trial))
    if sum(pbc) in trial.periodicities:
        assert (problems, warnings) == ([], [])
        label = engine.label(structure)
        longer = tuple(x if there else 2 * x for x, there in zip((4.0, 4.5, 8.0), pbc, strict=True))
        # What lies beyond the atoms in other directions is nothing.
        again = engine.label(repeated(water, pbc, longer))
        np.testing.assert_allclose(again.forces, label.forces, atol=1e-5)
        assert label.stress is None or trial.has_stress
    elif trial.repeats_along_all:
        assert problems == []
        assert "leave enough vacuum" in warnings[0]
        crystal = engine.label(repeated(water, (1, 1, 1), (4.0, 4.5, 8.0)))
        assert engine.label(structure).energy == pytest.approx(crystal.energy, abs=1e-6)
    else:
        assert warnings == []
        assert f"here.xyz: it repeats along {sum(pbc)} of its lattice vectors" in problems[0]
        with pytest.raises(EngineError):
            engine.label(structure)


@NAMED
def test_an_engine_with_stress_gives_one(name, start, water, request):
    section = ENGINES[name].section
    if 3 not in section.periodicities:
        assert not section.has_stress, "that of chains and slabs is nobody's"
        return
    crystal = repeated(water, (1, 1, 1), (4.0, 4.5, 8.0))
    tried = [make(request.getfixturevalue) for key, make in TRIALS.items() if key.startswith(name)]
    stresses = [start(trial, control_for(trial)).label(crystal).stress for trial in tried]
    assert any(stress is not None for stress in stresses) == section.has_stress


@TRIED
def test_in_deterministic_runs_no_label_depends_on_those_before(trial, start, water):
    """The toy library has no memory; that it starts anew each time is shown in test_asi.py."""
    settings = trial.model_copy(update=dict(trial.history_free))
    engine = start(settings, control_for(trial))
    moved = dataclasses.replace(water, positions=water.positions * 1.02)
    first = engine.label(water)
    engine.label(moved)
    again = engine.label(water)
    assert again.energy == first.energy
    np.testing.assert_array_equal(again.forces, first.forces)


@TRIED
def test_a_rescue_changes_what_the_engine_gets(trial):
    overrides: dict[str, Any] = {"sc_iter_limit": "99", "max_iterations": 99}
    control = control_for(trial, "charge 0")
    if "scf_rescue" not in type(trial).model_fields:
        assert trial.rescues == ()
        return
    with_ladder = trial.model_copy(update={"scf_rescue": (overrides,)})
    assert with_ladder.rescues == (overrides,)
    assert with_ladder.rescued(control, overrides) != (with_ladder, control)
