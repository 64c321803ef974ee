"""Density-functional theory for molecules: PySCF as an ASE calculator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from ase.calculators.calculator import (
    Calculator,
    CalculatorSetupError,
    SCFError,
    all_changes,
)
from ase.units import Bohr, Hartree

from fhi_al.record.hush import hushed


class PySCF(Calculator):  # type: ignore[misc]
    """Kohn-Sham energies and forces of molecules; an unconverged SCF raises SCFError.

    Restricted for closed shells, unrestricted otherwise. Every calculation starts from the
    superposition of atomic densities. An SCF that fails is continued with the second-order solver.

    Parameters (keyword arguments):
        xc: functional, by PySCF's names.
        basis: basis set, by PySCF's names.
        charge: total charge in e.
        spin: number of unpaired electrons.
        conv_tol: of the energy, in Hartree.
        max_cycle: most SCF iterations.
        grid_level: of the integration grid, 0 (coarse) to 9.
        grid_response: whether forces include the motion of the grid, which makes them the exact
            derivatives of the energy, for some more time.
        density_fit: whether Coulomb integrals are fitted (faster, a small error).

    Source: Q. Sun et al., J. Chem. Phys. 153, 024109 (2020).
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces"]
    default_parameters: ClassVar[dict[str, Any]] = {
        "xc": "pbe",
        "basis": "def2-svp",
        "charge": 0,
        "spin": 0,
        "conv_tol": 1e-9,
        "max_cycle": 100,
        "grid_level": 3,
        "grid_response": True,
        "density_fit": False,
    }

    def __init__(self, **parameters: Any) -> None:
        unknown = sorted(set(parameters) - set(self.default_parameters))
        if unknown:
            raise CalculatorSetupError(
                f"unknown parameters {', '.join(unknown)}; expected some of "
                f"{', '.join(self.default_parameters)}"
            )
        super().__init__(**parameters)

    def check_elements(self, elements: Sequence[str]) -> None:
        """See whether the basis set has all elements.

        Args:
            elements: chemical symbols.

        Raises:
            CalculatorSetupError: it hasn't, or there is no such basis set.
        """
        from pyscf import gto
        from pyscf.lib.exceptions import BasisNotFoundError

        unknown = []
        with hushed():  # where else a basis set could come from
            for symbol in elements:
                try:
                    gto.basis.load(self.parameters.basis, symbol)
                except (BasisNotFoundError, KeyError):
                    unknown.append(symbol)
        if unknown:
            raise CalculatorSetupError(
                f"the basis set {self.parameters.basis} has nothing for {', '.join(unknown)}"
            )

    def calculate(
        self,
        atoms: Any = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Run an SCF and its gradient.

        Raises:
            SCFError: it did not converge.
            CalculatorSetupError: the atoms are periodic, or can't have this charge and spin.
        """
        from pyscf import dft, gto

        super().calculate(atoms, properties, system_changes)
        if self.atoms.pbc.any():
            raise CalculatorSetupError("this calculator is for molecules, got a periodic structure")
        settings = self.parameters
        molecule = gto.Mole(
            atom=list(zip(self.atoms.symbols, self.atoms.positions / Bohr, strict=True)),
            unit="Bohr",
            basis=settings.basis,
            charge=settings.charge,
            spin=settings.spin,
            verbose=0,
        )
        try:
            molecule.build(dump_input=False, parse_arg=False)
        except RuntimeError as error:
            raise CalculatorSetupError(str(error)) from error
        scf = (dft.UKS if settings.spin else dft.RKS)(molecule, xc=settings.xc)
        if settings.density_fit:
            scf = scf.density_fit()
        scf.conv_tol = settings.conv_tol
        scf.max_cycle = settings.max_cycle
        scf.grids.level = settings.grid_level
        scf.chkfile = None  # or a temporary file is left open after an exception
        energy = float(scf.kernel())
        if not scf.converged:
            # Open shells with degenerate orbitals (isolated atoms) often go in circles; the
            # second-order solver doesn't.
            scf = scf.newton()
            energy = float(scf.kernel(scf.mo_coeff, scf.mo_occ))
        if not scf.converged:
            raise SCFError(f"the SCF did not converge in {settings.max_cycle} cycles")
        gradient = scf.nuc_grad_method()
        gradient.grid_response = settings.grid_response
        forces = -gradient.kernel() * (Hartree / Bohr)
        self.results = {
            "energy": energy * Hartree,
            "free_energy": energy * Hartree,
            "forces": forces,
        }
