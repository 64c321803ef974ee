"""Training against mace-torch's own loop: the same model, data and batches, one thread.

Usage: python benchmarks/train.py [--epochs N]

Rattled ethanol, labelled with GFN2-xTB. The compiled code is made first, in a new cache; what that
took is printed too. Epochs of the two loops alternate: other work on the machine meets both. Then
two members train, one after the other and in a thread each.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import yaml
from ase import Atoms
from ase.io import read
from mace.tools.torch_geometric.dataloader import DataLoader
from mace.tools.train import train_one_epoch
from tblite.ase import TBLite

from fhi_al.atoms.structure import Label, Structure, structure_key
from fhi_al.ensemble.fast_gradients import FastGradients
from fhi_al.ensemble.member import Member
from fhi_al.ensemble.members import Committee, new_members
from fhi_al.ensemble.train_member import train_epoch
from fhi_al.folder.run_folder import RunFolder
from fhi_al.settings import load_inputs

GEOMETRY = Path(__file__).resolve().parent.parent / "examples" / "ethanol" / "geometry.in"
MODELS = {
    "16 channels, L=0": ({"num_channels": 16, "max_L": 0}, 3.0),
    "64 channels, L=1": ({"num_channels": 64, "max_L": 1}, 1.5),
}
STRUCTURES = 60
BATCH = 5


class _Silent:
    def log(self, _: object) -> None:
        """Say nothing."""


def structures(count: int) -> list[Atoms]:
    """Rattled ethanol with energies and forces."""
    found = []
    for seed in range(count):
        atoms = read(GEOMETRY, format="aims")
        atoms.rattle(0.08, seed=seed)
        atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
        atoms.get_forces()
        found.append(atoms)
    return found


def run_folder(directory: Path, architecture: dict[str, int], data: list[Atoms]) -> RunFolder:
    """A run with these labels."""
    (directory / "geometry.in").write_text(GEOMETRY.read_text())
    mace = {"ARCHITECTURE": {**architecture, "r_max": 4.5}, "TRAINING": {"batch_size": BATCH}}
    active = {"REFERENCE": {"engine": "xtb"}, "ACTIVE_LEARNING": {"initial_sampling": "perturb"}}
    (directory / "mace_settings.yaml").write_text(yaml.safe_dump(mace))
    (directory / "active_learning_settings.yaml").write_text(yaml.safe_dump(active))
    folder = RunFolder(load_inputs(directory), "benchmark")
    for atoms in data:
        structure = Structure.from_atoms(atoms)
        key = structure_key(structure, "benchmark")
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        folder.labels.put(Label(structure, key, energy, forces), "benchmark")
    return folder


def theirs(member: Member, graphs: list) -> None:
    """One epoch of mace-torch."""
    train_one_epoch(
        model=member.model,
        loss_fn=member.loss,
        data_loader=DataLoader(graphs, BATCH, shuffle=True, generator=member.generator),
        optimizer=member.optimizer,
        epoch=0,
        output_args={"energy": True, "forces": True, "virials": False, "stress": False},
        max_grad_norm=member.options.clip_grad,
        ema=member.ema,
        logger=_Silent(),
        device=torch.device("cpu"),
        distributed=False,
    )


def ours(member: Member, graphs: list, fast: FastGradients) -> None:
    """One epoch of FHI_AL."""
    for _ in train_epoch(member, graphs, BATCH, fast):
        pass


def compare(architecture: dict[str, int], data: list[Atoms], epochs: int) -> dict[str, float]:
    """Measure one model.

    Returns:
        Seconds an epoch of both, and of two members of ours in turn and in two threads; seconds
        to compile.
    """
    with tempfile.TemporaryDirectory() as name:
        os.environ["FHI_AL_CACHE"] = str(Path(name) / "cache")
        folder = run_folder(Path(name), architecture, data)
        keys = [path.stem for path in sorted((Path(name) / "restart" / "labels").glob("*/*.h5"))]
        committee = Committee(folder.inputs, torch.device("cpu"))
        committee.members = new_members(committee, folder, keys, None)
        graphs = committee.graphs(folder).of(keys)
        member, other = committee.members[:2]
        fast = FastGradients(patience_seconds=0.0)
        fast.begin(graphs, BATCH)
        began = time.perf_counter()
        while fast.path == "eager":
            ours(member, graphs, fast)
        compiling = time.perf_counter() - began
        theirs(other, graphs)
        times: dict[str, list[float]] = {"theirs": [], "ours": []}
        for _ in range(epochs):
            began = time.perf_counter()
            theirs(other, graphs)
            middle = time.perf_counter()
            ours(member, graphs, fast)
            times["theirs"].append(middle - began)
            times["ours"].append(time.perf_counter() - middle)
        medians = {who: float(np.median(seconds)) for who, seconds in times.items()}
        pair = [(member, fast)]
        second = FastGradients(patience_seconds=0.0)
        second.begin(graphs, BATCH)
        ours(other, graphs, second)
        pair.append((other, second))
        for who, threads in (("in turn", 1), ("side by side", 2)):
            with ThreadPoolExecutor(threads) as pool:
                began = time.perf_counter()
                for _ in range(epochs):
                    list(pool.map(lambda one: ours(one[0], graphs, one[1]), pair))
                medians[who] = (time.perf_counter() - began) / epochs
        return {**medians, "compiling": compiling}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10, help="to time (default: 10)")
    epochs = parser.parse_args().epochs
    torch.set_num_threads(1)
    data = structures(STRUCTURES)
    print(f"seconds an epoch of {STRUCTURES} structures, {BATCH} a batch, median of {epochs}:")
    for name, (architecture, target) in MODELS.items():
        seconds = compare(architecture, data, epochs)
        print(
            f"{name}: mace-torch {seconds['theirs']:.3f}, FHI_AL {seconds['ours']:.3f}: "
            f"{seconds['theirs'] / seconds['ours']:.2f} times as fast (target {target}); "
            f"compiled in {seconds['compiling']:.0f} s"
        )
        print(
            f"  two members in turn {seconds['in turn']:.3f}, in a thread each "
            f"{seconds['side by side']:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
