"""The ethanol example against the clock, its label budget and structures that it never saw.

Usage: python benchmarks/ethanol.py [--ranks N] [--warm] [--eager] [--no-random]
       [--out DIR]

The test set is 200 structures from molecular dynamics with the example's reference method, run by
ASE and tblite's own calculator, so that no line of FHI_AL takes part. Random selection is the same
number of labels taken blindly from another such trajectory, and plain training. With --eager the
example runs without any compiled code first, for comparison.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ase import Atoms, units
from ase.io import read, write
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

HERE = Path(__file__).resolve().parent
EXAMPLE = HERE.parent / "examples" / "ethanol"
TEMPERATURE_K = 500.0


def reference_md(count: int, seed: int, *, trajectories: int = 4, spacing: int = 80) -> list[Atoms]:
    """Structures from MD with GFN2-xTB at 500 K, labelled.

    Args:
        count: how many.
        seed: of velocities and noise.
        trajectories: independent ones, each after 1 ps of its own.
        spacing: steps of 0.5 fs between two structures.
    """
    from tblite.ase import TBLite

    structures: list[Atoms] = []
    for trajectory in range(trajectories):
        random = np.random.default_rng([seed, trajectory])
        atoms = read(EXAMPLE / "geometry.in", format="aims")
        atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
        MaxwellBoltzmannDistribution(atoms, temperature_K=TEMPERATURE_K, rng=random)
        # With ASE's default, fixcm=True, small molecules run too hot.
        md = Langevin(
            atoms,
            0.5 * units.fs,
            temperature_K=TEMPERATURE_K,
            friction=0.01 / units.fs,
            fixcm=False,
            rng=random,
        )
        md.run(2000)
        while len(structures) < count * (trajectory + 1) // trajectories:
            md.run(spacing)
            taken = Atoms(atoms.numbers, atoms.positions)
            taken.info["REF_energy"] = atoms.get_potential_energy()
            taken.arrays["REF_forces"] = atoms.get_forces()
            structures.append(taken)
    return structures


def cached(path: Path, count: int, seed: int) -> list[Atoms]:
    """As `reference_md`, from the file if it is there."""
    if not path.exists():
        write(path, reference_md(count, seed), format="extxyz")
    return list(read(path, ":"))


def force_errors(models: list[Path], structures: list[Atoms]) -> dict[str, float]:
    """Force MAE in meV/Å of each model and of their mean."""
    from mace.calculators import MACECalculator

    truth = [atoms.arrays["REF_forces"] for atoms in structures]
    predictions = []
    for model in models:
        calculator = MACECalculator(model_paths=[str(model)], device="cpu", default_dtype="float64")
        predictions.append([calculator.get_forces(atoms) for atoms in structures])
    errors = {
        model.name: 1000 * float(np.mean(np.abs(np.array(found) - truth)))
        for model, found in zip(models, predictions, strict=True)
    }
    errors["mean of models"] = 1000 * float(np.mean(np.abs(np.mean(predictions, axis=0) - truth)))
    return errors


def run_example(folder: Path, cache: Path, ranks: int, evaluation: str = "auto") -> float:
    """Run the example from `mpirun` to its summary; seconds."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("run"))
    mace = yaml.safe_load((EXAMPLE / "mace_settings.yaml").read_text())
    mace["MISC"]["evaluation"] = evaluation
    (folder / "mace_settings.yaml").write_text(yaml.safe_dump(mace))
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "FHI_AL_CACHE": str(cache),
    }
    if os.getuid() == 0:
        environment |= {
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        }
    scripts = Path(sys.executable).parent
    command = [scripts / "mpirun", "--oversubscribe", "-n", str(ranks), scripts / "FHI_AL"]
    start = time.perf_counter()
    with (folder / "output.txt").open("w") as output:
        subprocess.run(command, cwd=folder, env=environment, check=True, stdout=output)
    return time.perf_counter() - start


def measure(run: Path, seconds: float, test: list[Atoms]) -> tuple[dict[str, Any], int]:
    """Print what a run took and gave; its summary, and the calls of the reference."""
    summary = json.loads((run / "results" / "summary.json").read_text())
    calls = sum(cost["reference_calls"] for cost in summary["costs"])
    errors = force_errors(sorted((run / "model").glob("*.model")), test)
    print(f"from mpirun to summary: {seconds:.0f} s (target: at most 300; warm: 150)")
    for cost in summary["costs"]:
        print(f"  {cost['stage']}: {cost['wall_seconds']:.0f} s")
    print(f"reference calls: {calls} (target: at most 120)")
    print("force MAE on 200 independent structures (target: at most 30 meV/Å):")
    for name, error in errors.items():
        print(f"  {name}: {error:.1f} meV/Å", flush=True)
    return summary, calls


def train_on_random(folder: Path, labels: list[Atoms], run: Path) -> Path:
    """Train one model plainly, with the settings of a run, on labels chosen blindly."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    n_valid = max(1, len(labels) // 10)
    write(folder / "train.xyz", labels[n_valid:], format="extxyz")
    write(folder / "valid.xyz", labels[:n_valid], format="extxyz")
    resolved = run / "results" / "settings" / "resolved"
    settings = yaml.safe_load((resolved / "mace_settings.yaml").read_text())
    own = yaml.safe_load((resolved / "active_learning_settings.yaml").read_text())
    architecture, training = settings["ARCHITECTURE"], settings["TRAINING"]
    command = [
        str(Path(sys.executable).parent / "mace_run_train"),
        *("--name", "random"),
        *("--train_file", "train.xyz", "--valid_file", "valid.xyz"),
        *("--E0s", "average", "--device", "cpu", "--seed", "1"),
        *("--num_channels", str(architecture["num_channels"])),
        *("--max_L", str(architecture["max_L"])),
        *("--r_max", str(architecture["r_max"])),
        *("--batch_size", str(training["batch_size"])),
        *("--lr", str(training["lr"])),
        *("--forces_weight", str(training["forces_weight"])),
        *("--energy_weight", str(training["energy_weight"])),
        "--ema",
        "--amsgrad",
        *("--ema_decay", str(training["ema_decay"])),
        *("--max_num_epochs", str(own["ACTIVE_LEARNING"]["max_final_epochs"])),
        *("--patience", str(own["ACTIVE_LEARNING"]["patience"])),
        *("--default_dtype", "float32"),
        *("--error_table", "PerAtomMAE"),
    ]
    with (folder / "output.txt").open("w") as output:
        subprocess.run(command, cwd=folder, check=True, stdout=output, stderr=output)
    return folder / "random.model"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, default=3, help="of mpirun")
    parser.add_argument("--out", type=Path, default=HERE / "out")
    parser.add_argument(
        "--warm", action="store_true", help="with the code compiled by a run before"
    )
    parser.add_argument("--eager", action="store_true", help="first without compiled code")
    parser.add_argument("--no-random", action="store_true", help="leave out random selection")
    arguments = parser.parse_args()
    arguments.out = arguments.out.resolve()
    arguments.out.mkdir(exist_ok=True)
    test = cached(arguments.out / "ethanol-test.xyz", 200, seed=1)

    run = arguments.out / "ethanol"
    cache = arguments.out / "cache"
    if not arguments.warm:
        # Compiling counts: nothing is left from earlier runs.
        shutil.rmtree(cache, ignore_errors=True)
    print(f"machine: {platform.machine()}, {os.cpu_count()} cores; {arguments.ranks} ranks")
    if arguments.eager:
        print("without compiled code")
        eager = arguments.out / "ethanol-eager"
        measure(eager, run_example(eager, cache, arguments.ranks, "eager"), test)
        print("with it")
    summary, calls = measure(run, run_example(run, cache, arguments.ranks), test)
    if not arguments.no_random:
        pool = cached(arguments.out / "ethanol-pool.xyz", 200, seed=2)
        order = np.random.default_rng(3).permutation(len(pool))
        chosen = [pool[index] for index in order[:calls]]
        (error, *_) = force_errors(
            [train_on_random(arguments.out / "random", chosen, run)], test
        ).values()
        print(
            f"random selection of {calls} labels, plain training of as many epochs as the "
            f"convergence may take: {error:.1f} meV/Å"
        )
    print("peak memory by rank / MB:")
    for rank, megabytes in enumerate(summary["peak_memory_mb"]):
        print(f"  rank {rank}: {megabytes:.0f}")


if __name__ == "__main__":
    main()
