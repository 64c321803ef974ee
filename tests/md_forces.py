"""Forces that cost nothing, and run folders, for tests of molecular dynamics."""

import numpy as np
import pytest
import torch
import yaml
from ase import units
from scipy.spatial.distance import pdist, squareform

from fhi_al.folder.run_folder import RunFolder
from fhi_al.md.driver import Prediction
from fhi_al.settings import load_inputs


class Springs:
    """Every atom bound to every other of its structure by a spring of its initial length.

    Free: nothing holds the structure as a whole, like a molecule. `members` differ by a factor.
    """

    path = "springs"
    device = torch.device("cpu")

    def __init__(self, structure, constant=2.0, members=(1.0,)):
        self.lengths = torch.from_numpy(squareform(pdist(structure.positions)))
        self.constant = constant
        self.members = torch.tensor(members, dtype=torch.float64)[:, None, None]

    def neighbor_lists(self):
        return None

    def predict(self, batch, lists=None, *, stress=False):
        positions = batch.positions.reshape(len(batch), -1, 3)
        vectors = positions[:, None] - positions[:, :, None]
        distances = vectors.norm(dim=-1)
        safe = distances + torch.eye(distances.shape[1], dtype=torch.float64)
        stretch = distances - self.lengths
        energies = 0.25 * self.constant * (stretch**2).sum((1, 2))
        forces = self.constant * ((stretch / safe)[..., None] * vectors).sum(2)
        return Prediction(
            energies=self.members[:, 0] * energies, forces=self.members * forces.reshape(-1, 3)
        )


class Wells:
    """Every atom bound to its own place in space by a spring: a crystal after Einstein."""

    path = "wells"
    device = torch.device("cpu")

    def __init__(self, structure, constant=3.0):
        self.places = torch.from_numpy(np.array(structure.positions))
        self.constant = constant

    def neighbor_lists(self):
        return None

    def predict(self, batch, lists=None, *, stress=False):
        displacements = batch.positions - self.places.repeat(len(batch), 1)
        return Prediction(
            energies=0.5 * self.constant * batch.sum((displacements**2).sum(1))[None],
            forces=-self.constant * displacements[None],
        )


class Bomb:
    """Springs until a structure has made some steps, then nonsense for one of them."""

    path, device = "bomb", torch.device("cpu")

    def __init__(self, springs, fuse, blast):
        self.springs, self.fuse, self.blast = springs, fuse, blast

    def neighbor_lists(self):
        return None

    def predict(self, batch, lists=None, *, stress=False):
        out = self.springs.predict(batch)
        self.fuse -= 1
        if self.fuse < 0:
            forces = out.forces.clone()
            forces[1, 10] = self.blast
            return Prediction(out.energies, forces)
        return out


@pytest.fixture
def springs():
    return Springs


@pytest.fixture
def wells():
    return Wells


def geometry_in(atoms):
    lines = [
        f"lattice_vector {x!r} {y!r} {z!r}" for x, y, z in atoms.cell.tolist() if atoms.pbc.all()
    ]
    # FHI-aims takes Å/ps.
    velocities = atoms.get_velocities() * units.fs * 1000
    for i, (x, y, z) in enumerate(atoms.positions.tolist()):
        lines.append(f"atom {x!r} {y!r} {z!r} {atoms.symbols[i]}")
        if atoms.constraints and i in atoms.constraints[0].index:
            lines.append("constrain_relaxation .true.")
        if velocities.any():
            lines.append("velocity " + " ".join(map(repr, velocities[i].tolist())))
    return "\n".join(lines)


@pytest.fixture
def folder(tmp_path, ethanol):
    """Makes a run folder with settings of ACTIVE_LEARNING, MD and MISC."""

    def make(atoms=ethanol, md=None, misc=None, **active_learning):
        (tmp_path / "geometry.in").write_text(geometry_in(atoms))
        sections = {
            "REFERENCE": {"engine": "xtb"},
            "ACTIVE_LEARNING": {
                "initial_sampling": "perturb",
                "num_trajectories": 3,
                "skip_step_mlff": 4,
                "sanity_skip": 12,
                **active_learning,
            },
            "MD": {"temperature": 300, "timestep": 1.0, "friction": 0.02, **(md or {})},
            "MISC": misc or {},
        }
        (tmp_path / "mace_settings.yaml").write_text("")
        (tmp_path / "active_learning_settings.yaml").write_text(yaml.safe_dump(sections))
        return RunFolder(load_inputs(tmp_path), "digest")

    return make
