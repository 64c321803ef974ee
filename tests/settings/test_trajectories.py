"""Several geometries, and several settings of molecular dynamics, dealt to trajectories."""

import numpy as np
import pytest
import yaml
from ase import units
from ase.build import bulk, molecule
from ase.io import write

from fhi_al.errors import InputError
from fhi_al.settings import load_inputs, resolved_yaml


@pytest.fixture
def load(folder):
    def make(md, geometry=None, **active_learning):
        settings = {"initial_sampling": "perturb", **active_learning}
        if geometry:
            settings["geometry"] = geometry
        sections = {"REFERENCE": {"engine": "xtb"}, "MD": md, "ACTIVE_LEARNING": settings}
        return load_inputs(folder(al=yaml.safe_dump(sections)))

    return make


@pytest.fixture
def starts(tmp_path):
    """A folder with two frames of water, ethanol, and silicon."""
    (tmp_path / "starts").mkdir()
    water = molecule("H2O")
    water.set_velocities(0.01 * np.ones((3, 3)) / units.fs)
    write(tmp_path / "starts" / "a.xyz", [water, molecule("H2O")])
    write(tmp_path / "starts" / "b.xyz", molecule("CH3CH2OH"))
    write(tmp_path / "starts" / "c.cif", bulk("Si", cubic=True))
    return "starts"


def test_trajectories_are_dealt_over_the_geometries_of_a_folder(load, starts):
    inputs = load({}, geometry=starts, num_trajectories=6, threshold_scope="system")
    assert [g.name for g in inputs.geometries] == ["a.xyz#0", "a.xyz#1", "b.xyz", "c.cif"]
    assert [t.geometry for t in inputs.trajectories] == [0, 1, 2, 3, 0, 1]
    assert [t.system for t in inputs.trajectories[:4]] == ["H2O", "H2O", "C2H6O", "Si8"]
    assert [t.velocities for t in inputs.trajectories] == [True] * 4 + [False] * 2
    assert inputs.geometries[0].velocities == pytest.approx(0.01 * np.ones((3, 3)))
    assert inputs.geometries[1].velocities is None
    assert inputs.elements == ("H", "C", "O", "Si")


def test_a_list_of_files_and_too_few_trajectories(load, starts):
    inputs = load({}, geometry=["geometry.in", f"{starts}/c.cif"], num_trajectories=1)
    assert [g.name for g in inputs.geometries] == ["geometry.in", "c.cif"]
    assert len(inputs.trajectories) == 2
    assert "the last ones are used for the initial dataset only" in inputs.warnings[0]


def test_a_grid_is_dealt_to_the_trajectories_of_each_geometry(load, starts):
    md = {"temperature_K": [300, 600], "pressure_GPa": [0, 1], "stat_ensemble": "npt"}
    inputs = load(md, geometry=f"{starts}/c.cif", num_trajectories=5)
    points = [
        (t.protocol.temperature.start, t.protocol.pressure.start / units.GPa)
        for t in inputs.trajectories
    ]
    assert points == [(300, 0), (300, 1), (600, 0), (600, 1), (300, 0)]
    inputs = load({"temperature_K": [300, 600]}, geometry=starts, num_trajectories=8)
    assert [t.protocol.temperature.start for t in inputs.trajectories] == [300] * 4 + [600] * 4


def test_settings_go_to_what_they_name(load, starts):
    md = [
        {"temperature_K": 100, "seed": [7, 8]},
        {"temperature_K": 200, "thermostat": "bussi"},
        {"geometries": "c.cif", "stat_ensemble": "npt", "pressure_GPa": [1, 2]},
        {"trajectories": [0, 5], "stat_ensemble": "nve", "initial_temperature_K": 900},
    ]
    inputs = load(md, geometry=starts, num_trajectories=9)
    protocols = [t.protocol for t in inputs.trajectories]
    assert [p.ensemble for p in protocols] == [
        "nve", "nvt", "nvt", "npt", "nvt", "nve", "nvt", "npt", "nvt"
    ]  # fmt: skip
    # Trajectory 0 is taken: the first free one of each geometry begins with the first settings.
    assert [p.temperature.start for p in protocols] == [
        300, 100, 100, 300, 100, 300, 200, 300, 200
    ]  # fmt: skip
    assert [round(p.pressure.start / units.GPa) for p in protocols] == [0, 0, 0, 1, 0, 0, 0, 2, 0]
    assert [protocols[i].seed for i in (1, 2, 4)] == [8, 7, 7]
    assert protocols[0].initial_temperature_K == 900
    assert (
        yaml.safe_load(resolved_yaml(inputs)["active_learning_settings.yaml"])["MD"][1][
            "thermostat"
        ]
        == "bussi"
    )


def test_ramps(load):
    ramp = load({"temperature_K": 300, "temperature_end_K": 500, "ramp_steps": 1000})
    temperature = ramp.trajectories[0].protocol.temperature
    assert [temperature.value(step, 0) for step in (0, 500, 1000, 9999)] == [300, 400, 500, 500]
    ramp = load({"temperature_K": 300, "temperature_end_K": 100, "ramp_labels": 10})
    temperature = ramp.trajectories[0].protocol.temperature
    assert [temperature.value(99, labels) for labels in (0, 5, 10)] == [300, 200, 100]


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("x.xyz", "no structure", "x.xyz: ASE can't read it"),
        ("x.xyz", "2\n\nH 0 0 0\nH 0 0 0.1\n", "x.xyz: two atoms are 0.100 Å apart"),
        ("x.xyz", "1\n\nX 0 0 0\n", "x.xyz: it has atoms of no element"),
        ("x.in", "atom 0 0 H", "x.in, line 1"),
    ],
)
def test_a_bad_geometry_is_named(load, tmp_path, name, text, sentence):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as error:
        load({}, geometry=name)
    assert sentence in "\n".join(error.value.problems)
