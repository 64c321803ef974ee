"""How much of the reference's time is hidden behind molecular dynamics and training.

Usage: python benchmarks/overlap.py [--labels N] [--groups N] [--ml-ranks N] [--out DIR]

Trajectories, members and models are those of the ethanol example; the reference is GFN2-xTB that
sleeps until its calculation has taken as long as it is told to, and so leaves the processor to the
ML ranks. A first run fills the cache of compiled code. One with a reference that costs nothing
tells what a label costs in molecular dynamics and training without overlap. With overlap it costs
more, as walkers that don't wait together share fewer epochs. So there are two kinds of equal cost;
the bound has equal terms in the second. The committees of both runs are tested as in ethanol.py. In
the last run the reference costs several times as much.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from ethanol import cached, force_errors

from fhi_al.analysis.accounting import Span, account, commands, shares
from fhi_al.record.journal import read_journal
from fhi_al.record.outcome import Worker

HERE = Path(__file__).resolve().parent
EXAMPLE = HERE.parent / "examples" / "ethanol"
DOMINATES = 4.0
"""Cost of a label that dominates, in units of what it costs in molecular dynamics and training."""


def settings(
    seconds: float, *, labels: int, groups: int, ml_ranks: int, overlap: bool
) -> dict[str, dict[str, Any]]:
    """active_learning_settings.yaml: that of the example, with fewer structures to begin with."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(
        (EXAMPLE / "active_learning_settings.yaml").read_text()
    )
    found["REFERENCE"] = {
        "engine": "ase",
        "calculator": "slow_xtb.SlowXtb",
        "arguments": {"seconds": seconds},
    }
    found["PARALLEL"] = {
        "reference_groups": groups,
        "ml_ranks": ml_ranks,
        "asynchronous": overlap,
    }
    # Without overlap, the same path of computation all the same.
    found["MISC"] = {"deterministic": False}
    found["ACTIVE_LEARNING"] |= {
        # Without a model to load and isolated atoms to compute, which have no share in this.
        "initial_sampling": "perturb",
        "perturb_displacement_A": 0.05,
        "n_samples": 2,
        "max_initial_set_size": 8,
        "desired_acc": 1e-6,
        "max_set_size": labels,
        "intermediate_epochs": 1,
        "converge_al": False,
    }
    return found


@dataclass
class Measured:
    """What a run took.

    Attributes:
        wall: seconds from its start to its end.
        labels: that it bought.
        reference: seconds of calculations.
        ml: seconds of molecular dynamics, training and the rest, of the busiest ML rank.
        busy: share of the time between the first and the last label in which a group worked, mean
            over the groups.
        roles: what each role did and waited for.
    """

    wall: float
    labels: int
    reference: float
    ml: float
    busy: float
    roles: list[str]

    def bound(self, groups: int) -> float:
        """Seconds that the run takes at least."""
        return max(self.reference / groups, self.ml)


def run(folder: Path, groups: int, ml_ranks: int, **changes: Any) -> Measured:
    """Run once, in an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("geometry.in", "control.in"):
        shutil.copy(EXAMPLE / name, folder)
    mace = yaml.safe_load((EXAMPLE / "mace_settings.yaml").read_text())
    del mace["ARCHITECTURE"]["atomic_energies"]
    al = settings(groups=groups, ml_ranks=ml_ranks, **changes)
    (folder / "mace_settings.yaml").write_text(yaml.safe_dump(mace))
    (folder / "active_learning_settings.yaml").write_text(yaml.safe_dump(al))
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "FHI_AL_CACHE": str(folder.parent / "cache"),
        "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]),
    }
    if os.getuid() == 0:
        environment |= {
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        }
    scripts = Path(sys.executable).parent
    ranks = ml_ranks + groups
    command = [scripts / "mpirun", "--oversubscribe", "-n", str(ranks), scripts / "FHI_AL"]
    with (folder / "output.txt").open("w") as output:
        subprocess.run(command, cwd=folder, env=environment, check=True, stdout=output)
    return measure(folder)


def measure(folder: Path) -> Measured:
    """Read a run's journal."""
    records, _ = read_journal(folder / "restart" / "journal.jsonl")
    (command,) = commands(records)
    by_worker: dict[Worker, list[Span]] = {}
    for span in command.spans:
        by_worker.setdefault(span.worker, []).append(span)
    labels = [span for span in command.spans if span.kind == "labels"]
    first, last = min(s.began for s in labels), max(s.ended for s in labels)
    groups = {worker for place in command.places for worker in place.workers}
    groups = {worker for worker in groups if worker.role == "reference"}
    return Measured(
        wall=command.ended - command.began,
        labels=len(labels),
        reference=sum(span.busy for span in labels),
        ml=max(
            sum(span.busy for span in spans)
            for worker, spans in by_worker.items()
            if worker.role == "ML"
        ),
        busy=sum(span.busy for span in labels) / len(groups) / (last - first),
        roles=[
            f"{use.role}: {shares(use.busy, use.rank_seconds)}; "
            f"waits for {shares(use.waiting, use.rank_seconds)}"
            for use in account(records)
        ],
    )


def force_mae(folder: Path) -> float:
    """In meV/Å, of a run's committee on structures from molecular dynamics with the reference."""
    test = cached(HERE / "out" / "ethanol-test.xyz", 200, seed=1)
    return force_errors(sorted((folder / "model").glob("*.model")), test)["mean of models"]


def show(title: str, measured: Measured) -> None:
    print(
        f"{title}: {measured.wall:.0f} s for {measured.labels} labels; "
        f"reference {measured.reference:.0f} s, ML {measured.ml:.0f} s"
    )
    for line in measured.roles:
        print(f"    {line}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=int, default=120, help="training structures to end with")
    parser.add_argument("--groups", type=int, default=1, help="reference groups")
    parser.add_argument("--ml-ranks", type=int, default=1)
    parser.add_argument("--out", type=Path, default=HERE / "out" / "overlap")
    arguments = parser.parse_args()
    arguments.out = arguments.out.resolve()
    groups, ranks = arguments.groups, arguments.ml_ranks

    def go(name: str, seconds: float, *, overlap: bool) -> Measured:
        return run(
            arguments.out / name,
            groups,
            ranks,
            seconds=seconds,
            labels=arguments.labels,
            overlap=overlap,
        )

    print(
        f"machine: {platform.machine()}, {os.cpu_count()} cores; {ranks} ML rank(s), "
        f"{groups} reference group(s)"
    )
    # Long enough that all code is compiled that pays for itself later.
    go("warm-up", 3.0, overlap=True)
    free = go("free", 0.0, overlap=False)
    show("A reference that costs nothing, without overlap", free)
    cost = round(groups * free.ml / free.labels, 2)

    def compare(seconds: float, what: str) -> Measured:
        print(
            f"\nA label takes {seconds:g} s, as molecular dynamics and training do {what} overlap"
        )
        apart = go(f"equal-{what}-apart", seconds, overlap=False)
        show("  without overlap", apart)
        together = go(f"equal-{what}-together", seconds, overlap=True)
        show("  with overlap", together)
        bound = together.bound(groups)
        print(
            f"  wall time / bound ({bound:.0f} s): {together.wall / bound:.2f} "
            "(target: at most 1.2)"
        )
        print(
            f"  faster than without overlap: {apart.wall / together.wall:.2f} times "
            "(target: at least 1.6)"
        )
        errors = [force_mae(arguments.out / f"equal-{what}-{how}") for how in ("apart", "together")]
        print(
            f"  force MAE of the committee: {errors[0]:.0f} meV/Å without overlap, "
            f"{errors[1]:.0f} with it"
        )
        return together

    together = compare(cost, "without")
    compare(round(groups * together.ml / together.labels, 2), "with")

    print(f"\nThe reference dominates: a label takes {DOMINATES * cost:g} s")
    together = go("dominating-together", DOMINATES * cost, overlap=True)
    show("  with overlap", together)
    bound = together.bound(groups)
    print(
        f"  wall time / bound ({bound:.0f} s): {together.wall / bound:.2f} (target: at most 1.08)"
    )
    print(
        "  reference groups busy between the first and the last label: "
        f"{100 * together.busy:.1f}% (target: at least 95%)"
    )
    print(
        "  without overlap it would take about "
        f"{free.wall + together.reference / groups:.0f} s: that and the first run"
    )


if __name__ == "__main__":
    main()
