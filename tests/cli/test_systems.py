"""Several systems in one run."""

from __future__ import annotations

import re

from ase.build import molecule
from ase.io import read, write
from cli_runs import call, journal, succeed, summary, write_inputs

from fhi_al.record.events import Advanced, Evaluated, Labelled, Opened


def test_a_run_with_two_molecules_by_ab_initio_md(tmp_path):
    """Initial labels, trajectories, thresholds and reports of both; then the geometries count."""
    write_inputs(
        tmp_path,
        al={
            "ACTIVE_LEARNING": {
                "geometry": ["geometry.in", "hydrogen.xyz"],
                "threshold_scope": "system",
                "initial_sampling": "aimd",
                "skip_step_initial": 2,
                "num_trajectories": 3,
                "n_samples": 2,
                "max_set_size": 6,
                "converge_al": False,
            },
            "MD": [
                {"temperature_K": 200, "thermostat": "bussi"},
                {"trajectories": 1, "temperature_K": 100, "seed": 7},
            ],
            "MISC": {"report": True},
        },
    )
    hydrogen = molecule("H2")
    write(tmp_path / "hydrogen.xyz", hydrogen)
    done = succeed("FHI_AL", tmp_path)
    events = journal(tmp_path)
    formulas = {event.formula for event in events if isinstance(event, Labelled)}
    assert formulas == {"H2O", "H2"}
    data = read(tmp_path / "data" / "train.xyz", ":")
    assert {len(atoms) for atoms in data} == {2, 3}
    moved = {t for event in events if isinstance(event, Advanced) for t in event.trajectories}
    assert {0, 1} <= moved
    (first, *_) = (event for event in events if isinstance(event, Opened))
    assert first.settings["threshold_systems"] in (["H2O", "H2", "H2O"], ("H2O", "H2", "H2O"))
    errors = [event for event in events if isinstance(event, Evaluated)][-1].errors
    assert {e.system for e in errors} <= {"", "H2O", "H2"}
    assert summary(tmp_path)["labels"].keys() == formulas
    assert "structures computed: " in done.text
    report = (tmp_path / "results" / "report.html").read_text(encoding="utf-8")
    assert re.search(r"This run on (H2O, H2|H2, H2O), with GFN2-xTB", report)
    # The thermostats of both sections.
    assert {"Bussi2007", "Leimkuhler2013"} <= set(re.findall(r"@article\{(\w+),", report))

    hydrogen.positions[0, 2] += 0.1
    write(tmp_path / "hydrogen.xyz", hydrogen)
    refused = call("FHI_AL", tmp_path)
    assert refused.code == 2
    assert "geometries was" in refused.text
