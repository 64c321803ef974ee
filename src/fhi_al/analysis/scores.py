"""Errors of models on a dataset, and how well the disagreement of a committee foretells them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fhi_al.analysis.predictions import Predictions
from fhi_al.atoms.structure import BoolArray, FloatArray

COMMITTEE = "committee"


@dataclass(frozen=True)
class Score:
    """Errors of one quantity.

    Attributes:
        n: numbers compared.
        mae: mean absolute error.
        rmse: root of the mean squared error.
        max: largest absolute error.
    """

    n: int
    mae: float
    rmse: float
    max: float


@dataclass(frozen=True)
class Scores:
    """Errors of one model, or of the committee, on a dataset or on a part of it.

    Attributes:
        who: name of the model, or `committee`.
        energy: in eV per atom; None for a part that has no energies of its own, as an element.
        forces: over components, in eV/Å; None where there are none.
        stress: over components, in eV/Å^3; None where there are none.
        system: formula of the structures that this is about; empty for all.
        species: symbol of the element that this is about; empty for all.
        n_structures: that take part.
    """

    who: str
    energy: Score | None
    forces: Score | None
    stress: Score | None
    system: str = ""
    species: str = ""
    n_structures: int = 0


@dataclass(frozen=True, eq=False)
class Deviations:
    """Predicted minus true values of one model, or of the mean of several.

    Attributes:
        energies: (structures,) in eV per atom.
        forces: (atoms, 3) in eV/Å.
        stress: (structures, 6) in eV/Å^3; nan where the reference has none.
    """

    energies: FloatArray
    forces: FloatArray
    stress: FloatArray


def deviations(predictions: Predictions, members: Sequence[int] | None = None) -> Deviations:
    """Compare with the reference.

    Args:
        predictions: of some models.
        members: places of those whose mean is taken; None: all.
    """
    chosen = slice(None) if members is None else list(members)
    energies, forces, stress = (
        values[chosen].mean(axis=0)
        for values in (predictions.energies, predictions.forces, predictions.stress)
    )
    return Deviations(
        energies=(energies - predictions.true_energies) / predictions.sizes,
        forces=forces - predictions.true_forces,
        stress=stress - predictions.true_stress,
    )


def score(values: FloatArray) -> Score | None:
    """Errors over all deviations that are numbers; None if there are none."""
    values = np.abs(values[np.isfinite(values)])
    if not len(values):
        return None
    return Score(
        n=len(values),
        mae=float(values.mean()),
        rmse=float(np.sqrt(np.square(values).mean())),
        max=float(values.max()),
    )


def all_scores(predictions: Predictions, names: Sequence[str]) -> list[Scores]:
    """Errors of each model, of the committee, and of that by element and by formula.

    Args:
        predictions: of these models.
        names: of the models, in their order.

    Returns:
        The models; the committee, if there are several; then what the committee (or the only
        model) does for each element, and for each formula if there are several.
    """
    found = [_scores(name, deviations(predictions, [index])) for index, name in enumerate(names)]
    mean = deviations(predictions)
    who = COMMITTEE if len(names) > 1 else names[0]
    if len(names) > 1:
        found.append(_scores(who, mean))
    found += _by_species(who, predictions, mean)
    found += _by_system(who, predictions, mean)
    return found


def _scores(who: str, found: Deviations, system: str = "") -> Scores:
    return Scores(
        who=who,
        energy=score(found.energies),
        forces=score(found.forces),
        stress=score(found.stress),
        system=system,
        n_structures=len(found.energies),
    )


def _by_species(who: str, predictions: Predictions, mean: Deviations) -> Iterator[Scores]:
    from ase.data import chemical_symbols

    structure = np.repeat(np.arange(len(predictions)), predictions.sizes)
    for number in np.unique(predictions.numbers):
        mine = predictions.numbers == number
        yield Scores(
            who=who,
            energy=None,
            forces=score(mean.forces[mine]),
            stress=None,
            species=chemical_symbols[number],
            n_structures=len(np.unique(structure[mine])),
        )


def _by_system(who: str, predictions: Predictions, mean: Deviations) -> Iterator[Scores]:
    formulas = np.array(predictions.formulas)
    systems = list(dict.fromkeys(formulas.tolist()))
    if len(systems) < 2:
        return
    for system in systems:
        mine: BoolArray = formulas == system
        part = Deviations(
            energies=mean.energies[mine],
            forces=mean.forces[np.repeat(mine, predictions.sizes)],
            stress=mean.stress[mine],
        )
        yield _scores(who, part, system)


# --- uncertainty -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Calibration:
    """How the true error of the force on an atom goes with the spread of the members' forces.

    Both are per component: `s_i` as in the uncertainty of molecular dynamics, and
    `e_i = sqrt(mean_xyz (F_mean - F_reference)^2)`.

    Attributes:
        spread: (atoms,) s_i in eV/Å.
        error: (atoms,) e_i in eV/Å.
        bin_spread: (bins,) root mean square of s_i in groups of equally many atoms, ascending.
        bin_error: (bins,) root mean square of e_i in these.
        ratio: root mean square of e_i over that of s_i: 1 for a calibrated committee, above it
            for one that is too sure of itself.
        rank_correlation: Spearman's, between s_i and e_i.

    Source: D. Levi, L. Gispan, N. Giladi, E. Fetaya, Sensors 22, 5540 (2022), for the groups.
    """

    spread: FloatArray
    error: FloatArray
    bin_spread: FloatArray
    bin_error: FloatArray
    ratio: float
    rank_correlation: float


def calibration(predictions: Predictions, most_bins: int = 10) -> Calibration | None:
    """Compare the members' disagreement with the committee's error.

    Args:
        predictions: of the members.
        most_bins: groups of atoms; fewer where that would leave less than ten atoms in one.

    Returns:
        None for a single model, which can't disagree, or where all forces are equal.
    """
    if len(predictions.forces) < 2:
        return None
    spread = np.sqrt(predictions.forces.var(axis=0).mean(axis=1))
    error = np.sqrt(np.square(deviations(predictions).forces).mean(axis=1))
    if not spread.any() or not error.any():
        return None
    bins = max(1, min(most_bins, len(spread) // 10))
    groups = np.array_split(np.argsort(spread, kind="stable"), bins)
    return Calibration(
        spread=spread,
        error=error,
        bin_spread=np.array([_rms(spread[group]) for group in groups]),
        bin_error=np.array([_rms(error[group]) for group in groups]),
        ratio=_rms(error) / _rms(spread),
        rank_correlation=_rank_correlation(spread, error),
    )


def _rms(values: FloatArray) -> float:
    return float(np.sqrt(np.square(values).mean()))


def _rank_correlation(x: FloatArray, y: FloatArray) -> float:
    from scipy.stats import rankdata

    ranks = rankdata(x), rankdata(y)
    if any(np.ptp(rank) == 0 for rank in ranks):
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])
