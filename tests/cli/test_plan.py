"""`FHI_AL-plan`: what it says of a run, against the run; and that it leaves nothing behind."""

from __future__ import annotations

import re
from pathlib import Path

from cli_runs import DETERMINISTIC, Done, call, contents, summary, write_inputs


def plan(folder: Path, *options: str, ranks: int | None = None) -> Done:
    """Plan a run, with a temporary folder to look into."""
    temporary = folder.parent / "temporary"
    temporary.mkdir()
    before = contents(folder)
    done = call("FHI_AL-plan", folder, ranks, options=options, TMPDIR=str(temporary))
    assert contents(folder) == before
    left = [path for path in temporary.iterdir() if path.name.startswith("fhi_al")]
    assert not left
    return done


def expected_calls(text: str) -> dict[str, int]:
    """Stage -> calls of the reference, from the table."""
    rows = re.findall(r"^│ (\w[\w ]*?) +│ +(\d+) │", text, flags=re.MULTILINE)
    return {name.replace(" ", "_"): int(calls) for name, calls in rows}


def test_calls_of_a_run_are_foreseen(finished, tmp_path):
    folder = write_inputs(tmp_path / "run", al=DETERMINISTIC)
    done = plan(folder)
    assert done.code == 0, done.text
    found = expected_calls(done.text)
    real = {cost["stage"]: cost["reference_calls"] for cost in summary(finished[0])["costs"]}
    assert set(real) <= set(found)
    for stage, calls in real.items():
        assert calls / 2 <= found[stage] <= 2 * calls, (stage, real, found)
    assert found["in_all"] == sum(calls for stage, calls in found.items() if stage != "in_all")
    for phrase in (
        "one rank for everything",
        "a calculation of the reference on one rank",
        "a training step of a model, 2 structures",
        "memory by rank: ",
        "- At most: as if desired_acc were never reached",
        "- The time goes to: labels ",
    ):
        assert phrase in " ".join(done.text.split())
    # Deterministic runs compile nothing.
    assert "ompil" not in done.text
    assert "Traceback" not in done.text


def test_with_several_ranks(tmp_path):
    layout = {"ml_ranks": 1, "reference_groups": 2}
    folder = write_inputs(tmp_path / "run", al={"PARALLEL": layout})
    done = plan(folder, "--quick", ranks=3)
    assert done.code == 0, done.text
    for phrase in (
        "3 ranks: 1 for ML, 1+1 for the reference",
        "controller, ML",
        "The bottleneck is the models: the reference groups are busy for",
        "would take",
        "Compiled code is assumed to be 4 times as fast",
    ):
        assert phrase in " ".join(done.text.split())
    assert len(re.search(r"memory by rank: ([\d, ]+) MB", done.text)[1].split(",")) == 3


def test_bad_input_is_told_at_once(tmp_path):
    folder = write_inputs(
        tmp_path / "run",
        mace={"TRAINING": {"lr": -1}},
        al={"ACTIVE_LEARNING": {"ensemble_size": 1}},
    )
    done = plan(folder, ranks=2)
    assert done.code == 2
    assert "2 problem(s) in the input:" in done.text
    assert "TRAINING.lr" in done.text
    assert "ACTIVE_LEARNING.ensemble_size" in done.text


def test_reference_that_fails_is_found_out(tmp_path):
    folder = write_inputs(tmp_path / "run", control="charge 20.\n")
    done = plan(folder, "--quick", ranks=2)
    assert done.code == 1
    assert "the reference has no result for geometry.in" in done.text
    assert "electrons" in done.text
    assert "Traceback" not in done.text
