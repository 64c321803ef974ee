"""Molecular dynamics with a committee, against ASE with MACE's own calculator and the same models.

Usage: python benchmarks/md.py [--systems small large silicon] [--trajectories 1 4 16 64]
       [--device cuda]

One thread, float32, 4 members with random weights: what they say makes no sense, what it takes to
compute it does. Forces are scaled down, so that nothing breaks within the steps that are timed.
The skin, the padding and the compiled code are those of a run; compiling is waited for. ASE moves
one trajectory; its time is that of one trajectory's step whatever their number. On a GPU, both
compute there; the memory is the GPU's.
"""

from __future__ import annotations

import argparse
import resource
import time
from copy import deepcopy

import numpy as np
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

from fhi_al.atoms.structure import Structure
from fhi_al.ensemble import cueq
from fhi_al.ensemble.architecture import ModelSpec, architecture_options, build_model
from fhi_al.ensemble.predict import CommitteePredictor
from fhi_al.fast.code import device_clock
from fhi_al.fast.forces import FastForces
from fhi_al.md.drive import Drive
from fhi_al.md.guard import Guard
from fhi_al.md.protocol import MdProtocol
from fhi_al.md.shard import Shard
from fhi_al.md.start import start_walkers
from fhi_al.settings.mace import Architecture
from fhi_al.settings.md import MdSettings

MEMBERS = 4
TARGETS = {"small": 18.0, "large": 4.0, "silicon": 3.0}
"""Speedup a trajectory-step at 16 trajectories."""
COMPILING_S = 1200.0


def system(name: str) -> tuple[Atoms, Architecture]:
    """The atoms and the architecture of one case."""
    small = Architecture(num_channels=16, max_L=0)
    if name == "silicon":
        atoms = bulk("Si", a=5.43, cubic=True).repeat(2)
        atoms.rattle(0.05, seed=1)
        return atoms, small
    return molecule("CH3CH2OH"), small if name == "small" else Architecture()


def members(atoms: Atoms, architecture: Architecture) -> list[torch.nn.Module]:
    """Models that differ in their weights."""
    elements = tuple(sorted(set(atoms.numbers.tolist())))
    spec = ModelSpec(
        options=architecture_options(architecture),
        elements=elements,
        atomic_energies=(0.0,) * len(elements),
        avg_num_neighbors=20.0,
        scale=0.05,
        shift=0.0,
        dtype="float32",
    )
    return [build_model(spec, seed) for seed in range(MEMBERS)]


def ase_ms(atoms: Atoms, models: list[torch.nn.Module], steps: int, device: torch.device) -> float:
    """Milliseconds a step of one trajectory."""
    from mace.calculators import MACECalculator

    atoms = atoms.copy()
    atoms.calc = MACECalculator(
        models=deepcopy(models), device=device.type, default_dtype="float32"
    )
    MaxwellBoltzmannDistribution(atoms, temperature_K=300, rng=np.random.default_rng(0))
    md = Langevin(atoms, 0.5 * units.fs, temperature_K=300, friction=0.01 / units.fs)
    md.run(3)
    began = device_clock(device)
    md.run(steps)
    return 1e3 * (device_clock(device) - began) / steps


class Timed:
    """Adds up the time of calls."""

    def __init__(self, function: object, device: torch.device) -> None:
        self._function = function
        self._device = device
        self.seconds = 0.0

    def __call__(self, *arguments: object, **keywords: object) -> object:
        began = device_clock(self._device)
        try:
            return self._function(*arguments, **keywords)  # type: ignore[operator]
        finally:
            self.seconds += device_clock(self._device) - began


def ours(
    atoms: Atoms, models: list[torch.nn.Module], count: int, steps: int, device: torch.device
) -> tuple[float, float, float, str]:
    """Milliseconds a trajectory-step, shares of the models and of the lists, and the path."""
    fast = FastForces(count, patience_seconds=0.0)
    converts = device.type == "cuda" and cueq.installed()
    predictor = CommitteePredictor(
        deepcopy(models), device, fast=fast, cueq=cueq.CuEquivariance() if converts else None
    )
    structure = Structure.from_atoms(atoms)
    protocols = [MdProtocol()] * count
    walkers = start_walkers([structure] * count, range(count), protocols, device=device)
    guard = Guard([MdSettings().limits] * count, walkers.structures)
    shard = Shard(walkers, Drive(predictor, walkers, protocols), guard)
    waited = time.perf_counter()
    still = deepcopy(walkers.batch)
    lists = predictor.neighbor_lists()
    while predictor.path == "eager" and time.perf_counter() - waited < COMPILING_S:
        predictor.predict(still, lists)
        time.sleep(2.0)
    list(shard.advance(3))
    models_time, predict_time = (
        Timed(fast.evaluate, device),
        Timed(predictor.predict, device),
    )
    fast.evaluate = models_time  # type: ignore[method-assign]
    predictor.predict = predict_time  # type: ignore[method-assign]
    began = device_clock(device)
    for _ in range(max(1, steps // 10)):
        list(shard.advance(10))
    seconds = device_clock(device) - began
    done = 10 * max(1, steps // 10) * count
    return (
        1e3 * seconds / done,
        models_time.seconds / seconds,
        (predict_time.seconds - models_time.seconds) / seconds,
        predictor.path,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--systems", nargs="+", default=list(TARGETS), choices=list(TARGETS))
    parser.add_argument("--trajectories", nargs="+", type=int, default=[1, 4, 16, 64])
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    arguments = parser.parse_args()
    device = arguments.device
    torch.set_num_threads(1)
    print(
        "| system | trajectories | ASE ms | ours ms | times | target | models | lists | memory MB |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in arguments.systems:
        atoms, architecture = system(name)
        models = members(atoms, architecture)
        for count in arguments.trajectories:
            # Before and after: other work on the machine comes and goes.
            first = ase_ms(atoms, models, 20, device)
            ms, share, rest, path = ours(atoms, models, count, max(10, 200 // count), device)
            reference = (first + ase_ms(atoms, models, 20, device)) / 2
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            if device.type == "cuda":
                memory = torch.cuda.max_memory_allocated() / 2**20
                torch.cuda.reset_peak_memory_stats()
            target = f"{TARGETS[name]:g}" if count == 16 else ""
            print(
                f"| {name} ({path}) | {count} | {reference:.1f} | {ms:.2f} | {reference / ms:.1f} "
                f"| {target} | {share:.0%} | {rest:.0%} | {memory:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
