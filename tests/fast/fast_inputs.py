"""Inputs of models, for tests of faster code."""

from fhi_al.atoms.batch import Batch
from fhi_al.atoms.structure import Structure


def batch_of(*atoms):
    return Batch.from_structures([Structure.from_atoms(a) for a in atoms])


def model_inputs(predictor, batch):
    return predictor.inputs(batch, predictor.neighbor_lists().edges(batch))
