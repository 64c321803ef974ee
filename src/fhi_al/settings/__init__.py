"""The users' input files, typed and checked; read without any heavy import."""

from fhi_al.settings.base import AL_FILE, MACE_FILE
from fhi_al.settings.control_in import ControlIn
from fhi_al.settings.engine import ReferenceSettings
from fhi_al.settings.inputs import (
    ActiveLearningFile,
    ConvergenceSettings,
    Inputs,
    resolved_yaml,
)
from fhi_al.settings.load import load_inputs
from fhi_al.settings.mace import MaceSettings

__all__ = [
    "AL_FILE",
    "MACE_FILE",
    "ActiveLearningFile",
    "ControlIn",
    "ConvergenceSettings",
    "Inputs",
    "MaceSettings",
    "ReferenceSettings",
    "load_inputs",
    "resolved_yaml",
]
