"""What to cite for a run, as BibTeX."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fhi_al.md.barostats import BAROSTATS
from fhi_al.md.thermostats import THERMOSTATS
from fhi_al.md.uncertainty import UNCERTAINTIES
from fhi_al.procedures.samplings import sampling
from fhi_al.record.papers import KABYLDA_2025
from fhi_al.record.registry import Citation

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
    "Blum2009": r"""@article{Blum2009,
  author = {Blum, Volker and Gehrke, Ralf and Hanke, Felix and Havu, Paula and Havu, Ville and
    Ren, Xinguo and Reuter, Karsten and Scheffler, Matthias},
  title = {Ab initio molecular simulations with numeric atom-centered orbitals},
  journal = {Comput. Phys. Commun.},
  volume = {180},
  pages = {2175--2196},
  year = {2009},
  doi = {10.1016/j.cpc.2009.06.022}
}""",
    "Stishenko2023": r"""@article{Stishenko2023,
  author = {Stishenko, Pavel V. and Keal, Thomas W. and Woodley, Scott M. and Blum, Volker and
    Hourahine, Benjamin and Maurer, Reinhard J. and Logsdail, Andrew J.},
  title = {Atomic Simulation Interface ({ASI}): application programming interface for electronic
    structure codes},
  journal = {J. Open Source Softw.},
  volume = {8},
  number = {85},
  pages = {5186},
  year = {2023},
  doi = {10.21105/joss.05186}
}""",
    "Bannwarth2019": r"""@article{Bannwarth2019,
  author = {Bannwarth, Christoph and Ehlert, Sebastian and Grimme, Stefan},
  title = {{GFN2-xTB}---An Accurate and Broadly Parametrized Self-Consistent Tight-Binding Quantum
    Chemical Method with Multipole Electrostatics and Density-Dependent Dispersion Contributions},
  journal = {J. Chem. Theory Comput.},
  volume = {15},
  pages = {1652--1671},
  year = {2019},
  doi = {10.1021/acs.jctc.8b01176}
}""",
    "Grimme2017": r"""@article{Grimme2017,
  author = {Grimme, Stefan and Bannwarth, Christoph and Shushkov, Philip},
  title = {A Robust and Accurate Tight-Binding Quantum Chemical Method for Structures, Vibrational
    Frequencies, and Noncovalent Interactions of Large Molecular Systems Parametrized for All
    spd-Block Elements ({Z} = 1--86)},
  journal = {J. Chem. Theory Comput.},
  volume = {13},
  pages = {1989--2009},
  year = {2017},
  doi = {10.1021/acs.jctc.7b00118}
}""",
    "Sun2020": r"""@article{Sun2020,
  author = {Sun, Qiming and others},
  title = {Recent developments in the {PySCF} program package},
  journal = {J. Chem. Phys.},
  volume = {153},
  pages = {024109},
  year = {2020},
  doi = {10.1063/5.0006074}
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
    KABYLDA_2025.key: KABYLDA_2025.bibtex,
}
"""Key -> entry; a key is the first author and the year. What an entry of a registry cites stands
there."""

XTB = {"GFN2-xTB": "Bannwarth2019", "GFN1-xTB": "Grimme2017"}


def cited(inputs: Mapping[str, Any]) -> list[Citation]:
    """What a run builds on.

    Args:
        inputs: the settings of the run, as `SECTION.name`.
    """
    return list(dict.fromkeys(_cited(inputs)))


def _cited(inputs: Mapping[str, Any]) -> Iterator[Citation]:
    for key in ("Batatia2022", "Henkes2026", *reference_keys(inputs)):
        yield Citation(key, BIBTEX[key])
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


def reference_keys(inputs: Mapping[str, Any]) -> list[str]:
    """Keys of the reference method."""
    engine = inputs.get("REFERENCE.engine")
    if engine == "xtb":
        return [XTB[inputs["REFERENCE.method"]]]
    if engine == "asi":
        return ["Blum2009", "Stishenko2023"]
    if engine == "mlff" and inputs.get("REFERENCE.model") == "so3lr":
        return ["Kabylda2025"]
    if engine == "ase" and "pyscf" in str(inputs.get("REFERENCE.calculator")).lower():
        return ["Sun2020"]
    return []
