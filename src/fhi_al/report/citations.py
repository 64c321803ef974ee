"""What to cite for a run, as BibTeX."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fhi_al.md.barostats import BAROSTATS
from fhi_al.md.thermostats import THERMOSTATS
from fhi_al.md.uncertainty import UNCERTAINTIES
from fhi_al.procedures.samplings import sampling
from fhi_al.record.registry import Citation
from fhi_al.settings.engine import ReferenceSettings
from fhi_al.settings.reference import ENGINES

BIBTEX = {
    "Batatia2022": r"""@inproceedings{Batatia2022,
  author = {Batatia, Ilyes and Kov{\'a}cs, D{\'a}vid P{\'e}ter and Simm, Gregor N. C. and
    Ortner, Christoph and Cs{\'a}nyi, G{\'a}bor},
  title = {{MACE}: Higher Order Equivariant Message Passing Neural Networks for Fast and
    Accurate Force Fields},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {35},
  year = {2022}
}""",
    "Henkes2026": r"""@article{Henkes2026,
  author = {Henkes, Tobias and Sharma, Shubham and Tkatchenko, Alexandre and Rossi, Mariana and
    Poltavsky, Igor},
  title = {{aims-PAX}: Parallel Active Exploration Enables Expedited Construction of Machine
    Learning Force Fields for Molecules and Materials},
  journal = {J. Chem. Inf. Model.},
  volume = {66},
  pages = {4365--4381},
  year = {2026},
  doi = {10.1021/acs.jcim.5c02682}
}""",
    "HjorthLarsen2017": r"""@article{HjorthLarsen2017,
  author = {Hjorth Larsen, Ask and others},
  title = {The atomic simulation environment---a {Python} library for working with atoms},
  journal = {J. Phys.: Condens. Matter},
  volume = {29},
  pages = {273002},
  year = {2017},
  doi = {10.1088/1361-648X/aa680e}
}""",
    "vanderOord2023": r"""@article{vanderOord2023,
  author = {van der Oord, Cas and Sachs, Matthias and Kov{\'a}cs, D{\'a}vid P{\'e}ter and Ortner,
    Christoph and Cs{\'a}nyi, G{\'a}bor},
  title = {Hyperactive learning for data-driven interatomic potentials},
  journal = {npj Comput. Mater.},
  volume = {9},
  pages = {168},
  year = {2023},
  doi = {10.1038/s41524-023-01104-6}
}""",
}
"""Key -> entry; a key is the first author and the year. What an entry of a registry cites stands
there."""


def cited(inputs: Mapping[str, Any]) -> list[Citation]:
    """What a run builds on.

    Args:
        inputs: the settings of the run, as `SECTION.name`.
    """
    return list(dict.fromkeys(_cited(inputs)))


def _cited(inputs: Mapping[str, Any]) -> Iterator[Citation]:
    for key in ("Batatia2022", "Henkes2026"):
        yield Citation(key, BIBTEX[key])
    if method := reference(inputs):
        yield from method.citations
    for name, value in inputs.items():
        section, _, setting = name.partition(".")
        ensemble = inputs.get(f"{section}.stat_ensemble")
        if setting == "initial_sampling":
            yield from sampling(value).citations
        elif setting == "uncertainty":
            yield from UNCERTAINTIES[value].citations
        elif setting == "thermostat" and ensemble != "nve":
            yield from THERMOSTATS[value].citations
        elif setting == "barostat" and ensemble == "npt":
            yield from BAROSTATS[value].citations
        elif setting == "bias_strength" and value:
            yield Citation("vanderOord2023", BIBTEX["vanderOord2023"])
    yield Citation("HjorthLarsen2017", BIBTEX["HjorthLarsen2017"])


def reference(inputs: Mapping[str, Any]) -> ReferenceSettings | None:
    """The reference method of a run, unchecked: its files may be gone.

    Args:
        inputs: the settings of the run, as `SECTION.name`.

    Returns:
        None for an engine of another version of the program.
    """
    section = {
        name.removeprefix("REFERENCE."): value
        for name, value in inputs.items()
        if name.startswith("REFERENCE.")
    }
    engine = ENGINES.get(str(section.get("engine")))
    return engine.section.model_construct(**section) if engine else None
