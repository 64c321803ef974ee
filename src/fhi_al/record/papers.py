"""Papers that more than one registry cites; the others stand beside the entry that cites them."""

from __future__ import annotations

from fhi_al.record.registry import Citation

KABYLDA_2025 = Citation(
    "Kabylda2025",
    r"""@article{Kabylda2025,
  author = {Kabylda, Adil and Frank, J. Thorben and Su{\'a}rez-Dou, Sergio and Khabibrakhmanov,
    Almaz and Medrano Sandonas, Leonardo and Unke, Oliver T. and Chmiela, Stefan and M{\"u}ller,
    Klaus-Robert and Tkatchenko, Alexandre},
  title = {Molecular Simulations with a Pretrained Neural Network and Universal Pairwise Force
    Fields},
  journal = {J. Am. Chem. Soc.},
  volume = {147},
  pages = {33723},
  year = {2025},
  doi = {10.1021/jacs.5c09558}
}""",
)
"""SO3LR."""
