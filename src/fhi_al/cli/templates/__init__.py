"""Input files to begin with, a folder for each template, and what each is for.

The help of a command lists them: importing this imports nothing.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Template:
    """A set of input files.

    Attributes:
        about: what it is for, in a line.
        engine: the reference engine that its settings name.
        periodic: what its structures are; None: either.
        next_steps: what the user does with the files, line by line.
    """

    about: str
    engine: str
    periodic: bool | None
    next_steps: tuple[str, ...]


_CHECK = "FHI_AL-plan                    # checks the files, and says what the run will cost"

TEMPLATES: dict[str, Template] = {
    "molecule": Template(
        "a molecule, with extended tight binding",
        "xtb",
        False,
        (_CHECK, "mpirun -n 3 FHI_AL             # or FHI_AL, on one rank"),
    ),
    "periodic": Template(
        "a crystal with stress, with extended tight binding",
        "xtb",
        True,
        (_CHECK, "mpirun -n 3 FHI_AL             # or FHI_AL, on one rank"),
    ),
    "asi": Template(
        "a molecule or crystal, with FHI-aims as a library",
        "asi",
        None,
        (
            "edit active_learning_settings.yaml: REFERENCE.library and REFERENCE.species_dir",
            "mpirun -n 16 FHI_AL-plan       # checks the files, and says what the run will cost",
            "mpirun -n 16 FHI_AL",
        ),
    ),
    "pyscf": Template(
        "a molecule, with density-functional theory by PySCF",
        "ase",
        False,
        (_CHECK, "mpirun -n 2 FHI_AL             # one rank learns, the other computes"),
    ),
    "finetune": Template(
        "fine-tuning of a foundation model on labels and by active learning",
        "xtb",
        None,
        (
            "edit active_learning_settings.yaml: ACTIVE_LEARNING.initial_models",
            "FHI_AL-recalculate frames.xyz --output data/initial/frames.xyz  # structures of yours",
            "mpirun -n 3 FHI_AL-al",
        ),
    ),
}
