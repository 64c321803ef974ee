"""What a walltime is, and what still fits in."""

from __future__ import annotations

import time

import pytest

from fhi_al.record.effects import Calculate, Train
from fhi_al.record.events import Labelled, Trained
from fhi_al.run.walltime import Walltime, end_of_job, parse_walltime

LABEL = Calculate("label-a", "a", "initial")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1:30", 90), ("02:00:00", 7200), ("1-00:00:01", 86401), (" 24:00:00 ", 86400)],
)
def test_walltimes_are_read_as_batch_systems_write_them(text: str, seconds: int) -> None:
    assert parse_walltime(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "00:00:00", "1h", "-5", "1-5", "1:2:3:4", "1.5", "1:-2"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected HH:MM:SS"):
        parse_walltime(text)


def test_the_user_is_asked_before_slurm() -> None:
    slurm = {"SLURM_JOB_END_TIME": "5000"}
    assert end_of_job(60.0, 1000.0, slurm) == (1060.0, "--walltime")
    assert end_of_job(None, 1000.0, slurm) == (5000.0, "the end of the Slurm job")
    assert end_of_job(None, 1000.0, {})[0] is None


def trained(epochs: int, seconds: float) -> Trained:
    return Trained("train-0", "train-0", (), (0,), epochs, 1, (), seconds)


def test_what_took_longer_than_what_is_left_is_not_begun() -> None:
    now = time.time()
    walltime = Walltime(now + 100, now)
    assert walltime.margin == 20
    assert walltime.has_time_for(LABEL)  # nothing is known yet
    walltime.learn([Labelled("label-b", "b", 0.0, 30.0), Labelled("label-c", "c", 0.0, 0.0)])
    assert walltime.has_time_for(LABEL)
    assert not walltime.has_time_for(LABEL, ahead=2)
    walltime.learn([trained(10, 100.0)])
    assert walltime.has_time_for(Train("train-1", "convergence", None, (0,), 7, ()))
    assert not walltime.has_time_for(Train("train-1", "convergence", None, (0,), 9, ()))
    assert walltime.is_up() is None
    assert Walltime(now + 3, now - 100).is_up()


def test_without_a_walltime_there_is_time_for_everything() -> None:
    walltime = Walltime(None, 0.0)
    walltime.learn([Labelled("label-b", "b", 0.0, 1e9)])
    assert walltime.has_time_for(LABEL)
    assert walltime.is_up() is None
