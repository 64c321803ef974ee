"""`FHI_AL-export`: what other programs are given is what the run has made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from subprocess import CompletedProcess

import ase.db
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import read
from cli_runs import ask, contents, summary
from mace.calculators import MACECalculator
from mace.data import AtomicData, HDF5Dataset, config_from_atoms
from mace.tools import AtomicNumberTable
from mace.tools.torch_geometric.batch import Batch

from fhi_al.record.journal import read_journal

MODELS = ("model", "torchscript", "lammps", "mliap")


def export(directory: Path, out: Path, *options: str) -> CompletedProcess[str]:
    return ask(directory, "FHI_AL-export", "--out", str(out), *options)


@pytest.fixture(scope="module")
def exported(finished, tmp_path_factory) -> Path:
    """All formats of the finished run, and its models in float32 as well."""
    folder, _ = finished
    out = tmp_path_factory.mktemp("exported")
    before = contents(folder)
    formats = [*MODELS, "extxyz", "hdf5", "ase-db"]
    done = export(folder, out, *(word for name in formats for word in ("--format", name)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "a finished run" in done.stdout + done.stderr
    assert "Warning" not in done.stdout + done.stderr
    done = export(folder, out / "single", "--dtype", "float32")
    assert done.returncode == 0, done.stdout + done.stderr
    assert contents(folder) == before
    return out


@pytest.fixture(scope="module")
def original(finished) -> Path:
    (path,) = (finished[0] / "model").glob("*.model")
    return path


@pytest.fixture
def frames(finished) -> list[Atoms]:
    return list(read(finished[0] / "data" / "valid.xyz", ":"))


def results(model: Path, atoms: Atoms, dtype: str = "float64") -> tuple[float, np.ndarray]:
    """Energy in eV and forces in eV/Å, by mace-torch's own calculator."""
    atoms = atoms.copy()
    atoms.calc = MACECalculator(model_paths=str(model), device="cpu", default_dtype=dtype)
    return atoms.get_potential_energy(), atoms.get_forces()


def graph(atoms: Atoms, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    table = AtomicNumberTable([int(z) for z in model.atomic_numbers])
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        data = AtomicData.from_config(
            config_from_atoms(atoms), z_table=table, cutoff=float(model.r_max)
        )
    finally:
        torch.set_default_dtype(before)
    return Batch.from_data_list([data]).to_dict()


def test_ase_model(exported, original, frames):
    single = exported / "single" / f"{original.stem}_float32.model"
    for atoms in frames:
        energy, forces = results(original, atoms)
        again = results(exported / original.name, atoms)
        assert again[0] == pytest.approx(energy, abs=1e-12)
        np.testing.assert_allclose(again[1], forces, atol=1e-12)
        rounded = results(single, atoms, "float32")
        np.testing.assert_allclose(rounded[1], forces, atol=1e-4)
        assert np.abs(rounded[1] - forces).max() > 1e-12
    weights = torch.load(single, weights_only=False).parameters()
    assert {parameter.dtype for parameter in weights} == {torch.float32}


def test_torchscript(exported, original, frames):
    model = torch.jit.load(exported / f"{original.stem}.torchscript.pt")
    for atoms in frames:
        energy, forces = results(original, atoms)
        out = model(graph(atoms, model), training=False, compute_force=True)
        assert out["energy"].item() == pytest.approx(energy, abs=1e-9)
        np.testing.assert_allclose(out["forces"].detach(), forces, atol=1e-9)


def test_lammps_model(exported, original, frames):
    """As `pair_style mace` calls it: all atoms are local, none is a ghost."""
    model = torch.jit.load(exported / f"{original.stem}.lammps.pt")
    for atoms in frames:
        energy, forces = results(original, atoms)
        out = model(graph(atoms, model), torch.ones(len(atoms), dtype=torch.float64))
        assert out["total_energy_local"].item() == pytest.approx(energy, abs=1e-9)
        np.testing.assert_allclose(out["forces"].detach(), forces, atol=1e-9)


class Mliap:
    """What LAMMPS hands to a model of `pair_style mliap unified`: pairs of atoms without ghosts."""

    def __init__(self, atoms: Atoms, cutoff: float, elements: list[str]) -> None:
        from ase.neighborlist import neighbor_list

        self.pair_i, self.pair_j, self.rij = neighbor_list("ijD", atoms, cutoff)
        self.elems = np.array([elements.index(symbol) for symbol in atoms.symbols])
        self.nlocal = self.ntotal = len(atoms)
        self.npairs = len(self.pair_i)
        self.eatoms = np.zeros(len(atoms))
        self.energy = 0.0
        self.forces = np.zeros((len(atoms), 3))

    def forward_exchange(self, ours, theirs, size) -> None:
        theirs.copy_(ours)

    reverse_exchange = forward_exchange

    def update_pair_forces_gpu(self, pairs) -> None:
        pairs = pairs.detach().numpy()
        np.add.at(self.forces, self.pair_i, pairs)
        np.add.at(self.forces, self.pair_j, -pairs)


def test_mliap_model(exported, original, frames):
    model = torch.load(exported / f"{original.stem}.mliap.pt", weights_only=False)
    assert model.element_types == ["H", "O"]
    for atoms in frames:
        energy, forces = results(original, atoms)
        data = Mliap(atoms, 2 * model.rcutfac, model.element_types)
        model.compute_forces(data)
        assert data.energy == pytest.approx(energy, abs=1e-9)
        np.testing.assert_allclose(data.forces, forces, atol=1e-9)


def test_datasets(exported, finished):
    folder, _ = finished
    for name in ("train", "valid"):
        own = list(read(folder / "data" / f"{name}.xyz", ":"))
        frames = list(read(exported / f"{name}.xyz", ":"))
        graphs = HDF5Dataset(exported / f"{name}.h5", r_max=3.5, z_table=AtomicNumberTable([1, 8]))
        with ase.db.connect(exported / "labels.db") as database:
            rows = [row.toatoms() for row in database.select(split=name)]
        assert len(own) == len(frames) == len(graphs) == len(rows) > 0
        for number, atoms in enumerate(own):
            energy, forces = atoms.info["REF_energy"], atoms.arrays["REF_forces"]
            assert frames[number].info["REF_energy"] == energy
            np.testing.assert_array_equal(frames[number].arrays["REF_forces"], forces)
            assert float(graphs[number].energy) == pytest.approx(energy, abs=1e-4)
            np.testing.assert_allclose(graphs[number].forces, forces, atol=1e-5)
            assert rows[number].get_potential_energy() == pytest.approx(energy, abs=1e-6)
            np.testing.assert_allclose(rows[number].get_forces(), forces, atol=1e-6)
            np.testing.assert_allclose(rows[number].positions, atoms.positions, atol=1e-6)


def test_model_card(exported, finished, original):
    folder, _ = finished
    card = json.loads((exported / "model_card.json").read_text())
    text = (exported / "model_card.md").read_text()
    assert card["elements"] == ["H", "O"]
    assert card["run_finished"]
    assert [file["format"] for file in card["files"]] == [*MODELS]
    assert {file["made_of"] for file in card["files"]} == {original.name}
    assert {file["dtype"] for file in card["files"]} == {"float64"}
    assert card["errors"] == summary(folder)["errors"]
    assert card["data"]["labels_by_formula"] == summary(folder)["labels"]
    assert card["data"]["dynamics"]["MD.temperature_K"] == [200.0]
    assert card["reference"]["method"] == "GFN2-xTB"
    assert card["origin"] == ["The weights are new: no pretrained model was used."]
    assert {"fhi_al", "mace-torch", "torch", "ase"} <= set(card["versions"])
    assert "unfinished" not in text
    for phrase in ("| engine | xtb |", f"| {original.name} | model | float64 |", "H, O"):
        assert phrase in text


def test_a_run_in_progress_gives_what_it_has(finished, tmp_path):
    """The journal as it is after the initial dataset, its last line half written."""
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    shutil.rmtree(folder / "checkpoints")
    journal = folder / "restart" / "journal.jsonl"
    records, _ = read_journal(journal)
    kinds = [type(record.event).__name__ for record in records]
    lines = journal.read_bytes().splitlines(keepends=True)
    first = kinds.index("Exported")
    journal.write_bytes(b"".join(lines[: first + 1]) + lines[first + 1][:30])
    done = export(folder, tmp_path / "out", "--format", "model", "--format", "extxyz")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not finished" in done.stdout + done.stderr
    assert len(list((tmp_path / "out").glob("*.model"))) == 2
    assert "Of an unfinished run" in (tmp_path / "out" / "model_card.md").read_text()

    journal.write_bytes(b"".join(lines[: kinds.index("Labelled") + 1]))
    done = export(folder, tmp_path / "early")
    assert done.returncode == 2
    assert "no models yet" in done.stdout + done.stderr
    assert "initial dataset with 1 labels" in done.stdout + done.stderr
    assert not (tmp_path / "early").exists()


def test_where_there_is_no_run(tmp_path):
    done = export(tmp_path, tmp_path / "out")
    assert done.returncode == 2
    assert "there is no run here" in done.stdout + done.stderr
