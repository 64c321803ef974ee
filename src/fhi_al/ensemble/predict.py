"""Energies, forces and stresses of many structures by all members of a committee."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from ase.calculators.calculator import Calculator
from mace.modules.symmetric_contraction import Contraction

from fhi_al.atoms.batch import Batch
from fhi_al.atoms.neighbors import Edges, NeighborLists
from fhi_al.atoms.structure import Structure
from fhi_al.atoms.voigt import from_voigt
from fhi_al.ensemble.cueq import CuEquivariance
from fhi_al.fast.code import allowed_error
from fhi_al.fast.forces import FastForces
from fhi_al.fast.padding import Tensors
from fhi_al.fast.splitting import MemoryLimit, Outputs, joined_outputs, split
from fhi_al.md.driver import Prediction
from fhi_al.record.measures import Describe

log = logging.getLogger(__name__)

T = TypeVar("T")


class CommitteePredictor:
    """A committee of MACE models.

    Args:
        models: MACE modules of the same architecture that hold the weights to be used. They are
            taken over: moved, converted, and no longer to be trained.
        device: where to compute.
        dtype: precision of the models.
        one_by_one: evaluate each structure alone, so that rounding doesn't depend on the others
            in the batch (deterministic mode).
        skin: of neighbour lists for molecular dynamics, in Å.
        fast: compiles in the background; None: everything stays eager.
        cueq: converts the models, if that gives the same forces; None: MACE's own are used.
    """

    def __init__(
        self,
        models: Sequence[torch.nn.Module],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        *,
        one_by_one: bool = False,
        skin: float = 0.5,
        fast: FastForces | None = None,
        cueq: CuEquivariance | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.dtype = dtype
        self._room = MemoryLimit(self.device, 1 if one_by_one else sys.maxsize)
        self.skin = skin
        # Faster code has one shape for all.
        self._fast = None if one_by_one else fast
        self._cueq = cueq
        self.load(models)

    @property
    def path(self) -> str:
        """How forces were computed the last time."""
        return "eager" if self._fast is None else self._fast.path

    def load(self, models: Sequence[torch.nn.Module]) -> None:
        """Take other models, or the same with other weights."""
        self._models: list[Any] = [
            model.to(device=self.device, dtype=self.dtype).requires_grad_(False).eval()
            for model in models
        ]
        # MACE's own models, until converted ones were compared with them.
        self._originals: list[Any] | None = None
        first = self._models[0]
        self.cutoff = float(first.r_max)
        elements: torch.Tensor = first.atomic_numbers
        self._species = torch.full((128,), -1, dtype=torch.int64, device=self.device)
        self._species[elements] = torch.arange(len(elements), device=self.device)
        self._n_elements = len(elements)
        self._head = _head(getattr(first, "heads", None) or ["Default"])
        if self._cueq is not None:
            self._convert(self._cueq)
        if self._fast is not None:
            self._fast.load(self._models, Contraction)

    def __len__(self) -> int:
        return len(self._models)

    def neighbor_lists(self) -> NeighborLists:
        """Make lists to be handed to `predict` while the same structures move."""
        return NeighborLists(self.cutoff, self.skin)

    def predict(
        self,
        batch: Batch,
        lists: NeighborLists | None = None,
        *,
        stress: bool = False,
        only_first: bool = False,
    ) -> Prediction:
        """Evaluate all structures with all members.

        Args:
            batch: the structures.
            lists: from `neighbor_lists`, used for this batch only; None: search now.
            stress: whether to compute it.
            only_first: ask the first member only.
        """
        members = range(1 if only_first else len(self))
        edges = (lists or NeighborLists(self.cutoff, 0.0)).edges(batch)
        inputs = self.inputs(batch, edges)
        if self._originals is not None:
            self._compare(self._originals, next(split(inputs, 1)))
        if self._fast is None or lists is None:
            outputs = self._outputs(inputs, members, stress)
        else:
            outputs = self._fast.evaluate(inputs, self._outputs, members, stress)
        return self._finished(batch, *outputs)

    def described(self, batch: Batch, describe: Describe) -> torch.Tensor:
        """Look at what the models make of structures, without forces.

        Args:
            batch: the structures.
            describe: what to look at; see `MEASURES`.

        Returns:
            (structures, numbers).
        """
        models = self._originals or self._models
        inputs = self.inputs(batch, NeighborLists(self.cutoff, 0.0).edges(batch))
        with torch.no_grad():
            return torch.cat(self._in_parts(inputs, lambda part: describe(models, part)))

    def _convert(self, cueq: CuEquivariance) -> None:
        """Take twins of the models that compute by cuEquivariance."""
        try:
            twins = cueq.twins(self._models)
        except RuntimeError as error:
            self._cueq = None
            log.warning("cuEquivariance is not used: %s", error)
        else:
            self._models, self._originals = twins, self._models

    def _compare(self, originals: list[Any], inputs: Tensors) -> None:
        """Compare the first converted model with MACE's own; if it is off, go on with those."""
        _, exact, _ = ask(originals[:1], inputs, virials=False)
        largest = float(exact.abs().max())
        if not math.isfinite(largest):
            return  # nothing to compare with; the next structure will do
        self._originals = None
        try:
            _, found, _ = ask(self._models[:1], inputs, virials=False)
            error = float((found - exact).abs().max())
            if error <= allowed_error(max(largest, 0.01), self.dtype):
                return
            reason = f"its forces differ by {error:.1e} eV/Å"
        # Kernels that this GPU can't run show that now.
        except Exception as failure:
            reason = f"{type(failure).__name__}: {failure}"
        self._models, self._cueq = originals, None
        log.warning("cuEquivariance is not used: %s", reason)
        if self._fast is not None:
            self._fast.load(self._models, Contraction)

    def _finished(
        self,
        batch: Batch,
        energies: torch.Tensor,
        forces: torch.Tensor,
        virials: torch.Tensor | None,
    ) -> Prediction:
        if virials is None:
            return Prediction(energies, forces)
        volumes = torch.linalg.det(batch.cells).abs()
        # Virials are minus the derivative of the energy by strain.
        scale = torch.where(volumes > 0, -1.0 / volumes, 0.0)
        return Prediction(energies, forces, virials * scale[:, None, None])

    def _outputs(self, inputs: Tensors, members: Sequence[int], virials: bool) -> Outputs:
        """Ask the models themselves."""
        models = [self._models[member] for member in members]
        return joined_outputs(
            self._in_parts(inputs, lambda part: ask(models, part, virials=virials))
        )

    def _in_parts(self, inputs: Tensors, evaluate: Callable[[Tensors], T]) -> list[T]:
        """Evaluate about as many structures at a time as there is room for."""
        while True:
            try:
                return [evaluate(part) for part in split(inputs, self._room.at_most)]
            except torch.cuda.OutOfMemoryError:
                if not self._room.shrink(len(inputs["head"])):
                    raise

    def inputs(self, batch: Batch, edges: Edges) -> Tensors:
        """What a model of MACE takes, by its names."""
        one_hot = torch.nn.functional.one_hot(self._species[batch.numbers], self._n_elements)
        # Float32 has 7 digits: far from the origin they would not be enough.
        counts = torch.from_numpy(np.diff(batch.ptr)).to(self.device)
        centres = batch.sum(batch.positions) / counts[:, None]
        return {
            "positions": (batch.positions - centres[batch.structure_index]).to(self.dtype),
            "node_attrs": one_hot.to(self.dtype),
            "edge_index": edges.index,
            "shifts": edges.shifts.to(self.dtype),
            "unit_shifts": edges.unit_shifts.to(self.dtype),
            "cell": batch.cells.reshape(-1, 3).to(self.dtype),
            "batch": batch.structure_index,
            "ptr": torch.from_numpy(batch.ptr).to(self.device),
            "head": torch.full((len(batch),), self._head, device=self.device),
        }


class CalculatorDriver:
    """Any ASE calculator as a committee of one, evaluated structure by structure.

    Args:
        calculator: gives energy and forces, and stress where that is asked for.
        info: put into `Atoms.info` (total charge and spin, for calculators that look there).
    """

    def __init__(self, calculator: Calculator, info: Mapping[str, Any] | None = None) -> None:
        self.calculator = calculator
        self.info = dict(info or {})
        self.path = type(calculator).__name__
        self.device = torch.device("cpu")

    def neighbor_lists(self) -> None:
        """A calculator keeps its own."""

    def predict(
        self,
        batch: Batch,
        lists: NeighborLists | None = None,
        *,
        stress: bool = False,
        only_first: bool = False,
    ) -> Prediction:
        """Evaluate all structures."""
        energies, forces, stresses = [], [], []
        for i in range(len(batch)):
            one = batch.part(i, i + 1)
            atoms = Structure(
                numbers=one.numbers.cpu().numpy(),
                positions=one.positions.cpu().numpy(),
                cell=one.cells[0].cpu().numpy(),
                pbc=one.pbc[0],
            ).to_atoms()
            atoms.info.update(self.info)
            atoms.calc = self.calculator
            energies.append(atoms.get_potential_energy())
            forces.append(atoms.get_forces())
            if stress and one.pbc.all():
                stresses.append(from_voigt(atoms.get_stress()))
            elif stress:
                stresses.append(np.zeros((3, 3)))
        return Prediction(
            energies=torch.tensor(np.array([energies])),
            forces=torch.tensor(np.concatenate(forces)[None]),
            stress=torch.tensor(np.stack(stresses)[None]) if stress else None,
        )


def ask(models: Sequence[Any], inputs: Tensors, *, virials: bool) -> Outputs:
    """Evaluate structures with models themselves.

    Args:
        models: of MACE.
        inputs: of a model.
        virials: whether they are wanted.
    """
    outputs = [
        # The model marks and replaces entries of what it is given.
        model(
            {**inputs, "positions": inputs["positions"].clone()},
            compute_force=True,
            compute_virials=virials,
        )
        for model in models
    ]
    energies, forces, strain = (
        torch.stack([out[name].detach().double() for out in outputs])
        if outputs[0][name] is not None
        else None
        for name in ("energy", "forces", "virials")
    )
    assert energies is not None
    assert forces is not None
    return energies, forces, strain


def _head(heads: Sequence[str]) -> int:
    """Choose as mace's own calculator does: the head called default, or the only one."""
    names = [head.lower() for head in heads]
    return names.index("default") if "default" in names else len(names) - 1
