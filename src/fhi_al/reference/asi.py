"""FHI-aims, or another library with the ASI interface, inside this process.

The only importer of asi4py, whose 1.4.9 needs guarding: it prints and swallows the exceptions of
`init` and `run`; it wants every ScaLAPACK routine of the library, though they serve only the
exchange of matrices; and a request for charges spoils the energies that follow, so that its ASE
calculator is not used and nothing but energy, forces and stress is asked for.

Source: P. V. Stishenko et al., J. Open Source Softw. 8, 5186 (2023), the ASI interface.
"""

from __future__ import annotations

import ctypes
import io
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase.data import chemical_symbols
from ase.units import Bohr, Hartree

from fhi_al.atoms.structure import FloatArray, Label, Structure
from fhi_al.atoms.voigt import to_voigt
from fhi_al.errors import EngineError, FhiAlError, InputError, UnconvergedError
from fhi_al.record.files import write_text
from fhi_al.reference.engine import charge_and_unpaired, hash_settings, make_label
from fhi_al.reference.stress import StressCheck
from fhi_al.reference.workdir import inside
from fhi_al.settings.geometry_in import format_geometry

if TYPE_CHECKING:
    from fhi_al.settings.control_in import ControlIn
    from fhi_al.settings.reference import AsiSettings

SYMBOLS = (
    "ASI_init",
    "ASI_run",
    "ASI_finalize",
    "ASI_flavour",
    "ASI_n_atoms",
    "ASI_set_atom_coords",
    "ASI_energy",
    "ASI_forces",
    # asi4py looks these up when it opens a library, whether they are used or not.
    "ASI_atomic_charges",
    "ASI_calc_esp",
    "ASI_register_dm_callback",
    "ASI_register_overlap_callback",
    "ASI_register_hamiltonian_callback",
    "ASI_register_external_potential",
    "ASI_is_hamiltonian_real",
    "ASI_get_basis_size",
    "ASI_get_nspin",
    "ASI_get_nkpts",
    "ASI_get_n_local_ks",
    "ASI_get_local_ks",
)
"""What a library must have. ASI_is_scf_converged may be missing, and, where nothing is periodic,
ASI_set_geometry and ASI_stress."""

FLAVOURS = (0, 1)
"""What ASI_flavour may be: a dummy, FHI-aims."""

OUTPUT = "library.out"
"""Where the library's writing to standard output goes, in the group's folder."""


class AsiEngine:
    """Labels by an ASI library on the group's communicator.

    The library lives from one change of atoms, moments or charges to the next: species and number
    of atoms are fixed between its initialisation and its end. While it lives, each calculation
    starts from the density before it, unless `reuse_density` is off or that SCF failed.
    """

    def __init__(
        self,
        settings: AsiSettings,
        control: ControlIn | None,
        elements: Sequence[str],
        comm: Any,
        directory: Path,
    ) -> None:
        from mpi4py import MPI

        self._comm = MPI.COMM_SELF if comm is None else comm
        self._settings = settings
        self._directory = directory
        self._asi: Any = None
        self._alive_for: tuple[object, ...] = ()
        self._stress_check = StressCheck()
        problem = library_problem(settings.library)
        if control is None:
            problem = "control.in is missing; the engine asi needs it"
        self._agree(problem, InputError)
        assert control is not None
        self._control = control
        self._digest = self.digest(settings, control, elements)
        functionals = [keyword.value for keyword in control.keywords if keyword.name == "xc"]
        self._method = functionals[0] if functionals else settings.library.name

    @classmethod
    def digest(
        cls, settings: AsiSettings, control: ControlIn | None, elements: Sequence[str]
    ) -> str:
        """See `Engine.digest`: the control.in that the library gets, species blocks included.

        Comments and spaces don't count.

        Raises:
            InputError: an element has no species block.
        """
        assert control is not None
        text = control.for_aims(sorted(set(elements)), False, settings.species_dir)
        lines = (line.split("#", 1)[0].split() for line in text.splitlines())
        return hash_settings("asi", control=[words for words in lines if words])

    def atomic_energies(self) -> dict[str, float] | None:
        """See `Engine.atomic_energies`: computed like any other label."""
        return None

    def label(self, structure: Structure) -> Label:
        """See `Engine.label`."""
        start = time.perf_counter()
        energy, forces, stress = self._compute(structure)
        charge, unpaired = charge_and_unpaired(structure, self._control)
        try:
            label = make_label(
                structure,
                self._digest,
                energy=energy,
                forces=forces,
                stress=stress,
                engine="asi",
                method=self._method,
                charge=charge,
                unpaired=-1 if unpaired is None else unpaired,
                ranks=self._comm.Get_size(),
                seconds=time.perf_counter() - start,
            )
        except UnconvergedError:
            self._alive_for = ()
            raise
        self._stress_check(label, self._compute)
        return label

    def close(self) -> None:
        """See `Engine.close`."""
        if self._asi is not None:
            with inside(self._directory, OUTPUT):
                # Not asi4py's close(), which starts a shell (a fork under MPI) to copy the log.
                self._asi.lib.ASI_finalize()
            self._asi = None

    def _compute(self, structure: Structure) -> tuple[float, FloatArray, FloatArray | None]:
        """Run the library; the same result, or the same exception, on every rank."""
        needs = tuple(
            None if array is None else array.tobytes()
            for array in (structure.numbers, structure.pbc, structure.magmoms, structure.charges)
        )
        if self._asi is None or needs != self._alive_for or not self._settings.reuse_density:
            self.close()
            self._start(structure)
            self._alive_for = needs
        asi = self._asi
        asi.atoms = structure.to_atoms()
        with inside(self._directory, OUTPUT):
            asi.set_geometry()
            # Not asi4py's run(), which swallows exceptions.
            asi.lib.ASI_run()
        self._check_converged()
        return self._results(structure)

    def _start(self, structure: Structure) -> None:
        from asi4py.pyasi import ASIlib

        problem = None
        if self._comm.Get_rank() == 0:
            try:
                self._write_inputs(structure)
            except (FhiAlError, OSError) as error:
                problem = str(error)
        self._agree(problem, EngineError)
        self._asi = None
        asi = ASIlib(
            str(self._settings.library),
            # Not here, where an exception on rank 0 would leave the others in a barrier.
            lambda _: None,
            mpi_comm=self._comm,
            work_dir=str(self._directory),
            logfile=self._settings.log,
        )
        said = io.StringIO()
        with inside(self._directory, OUTPUT), redirect_stdout(said), _without_scalapack():
            started = asi.init()
        if started is None:
            problem = f"ASI_init failed: {said.getvalue().strip()}"
        elif structure.periodic and not hasattr(asi.lib, "ASI_set_geometry"):
            problem = f"{self._settings.library} has no ASI_set_geometry, for periodic structures"
        self._agree(problem, EngineError)
        self._asi = asi

    def _write_inputs(self, structure: Structure) -> None:
        elements = [chemical_symbols[number] for number in sorted(set(structure.numbers.tolist()))]
        control = self._control
        if len(structure) == 1 and not structure.periodic and structure.magmoms is not None:
            control = control.with_keywords(_isolated(structure, control))
        text = control.for_aims(elements, structure.periodic, self._settings.species_dir)
        write_text(self._directory / "control.in", text)
        write_text(self._directory / "geometry.in", format_geometry(structure, exact=True))

    def _check_converged(self) -> None:
        library = self._asi.lib
        converged = True
        if hasattr(library, "ASI_is_scf_converged"):
            converged = bool(self._asi.is_scf_converged)
        if all(self._comm.allgather(converged)):
            return
        # The next calculation must not start from this density.
        self._alive_for = ()
        raise UnconvergedError("the SCF did not converge (ASI_is_scf_converged)")

    def _results(self, structure: Structure) -> tuple[float, FloatArray, FloatArray | None]:
        results: Any = None
        problem = None
        if self._comm.Get_rank() == 0:
            asi = self._asi
            forces = asi.total_forces if asi.n_atoms == len(structure) else None
            stress = None
            if structure.periodic and hasattr(asi.lib, "ASI_stress"):
                stress = asi.stress
            if asi.n_atoms != len(structure):
                problem = f"{asi.n_atoms} atoms, expected {len(structure)}"
            elif forces is None:
                problem = "no forces; does it take `compute_forces .true.` in control.in?"
            else:
                results = (
                    asi.total_energy * Hartree,
                    # The library's own memory, which its next run overwrites.
                    forces * (Hartree / Bohr),
                    None if stress is None else _voigt(stress) * (Hartree / Bohr**3),
                )
        self._agree(problem and f"the ASI library gives {problem}", EngineError)
        energy, forces, stress = self._comm.bcast(results)
        return energy, forces, stress

    def _agree(self, problem: str | None, kind: type[FhiAlError]) -> None:
        """Raise on all ranks if there is a problem on any."""
        problems = {text for text in self._comm.allgather(problem) if text}
        if problems:
            raise kind("; ".join(sorted(problems)))


@contextmanager
def _without_scalapack() -> Iterator[None]:
    """Keep asi4py from looking up ScaLAPACK routines in the library.

    It wants all 122 that scalapack4py knows, for the exchange of matrices, which we don't use; a
    library that is linked with fewer of them couldn't be opened.
    """
    from asi4py import pyasi

    original = pyasi.ScaLAPACK4py
    pyasi.ScaLAPACK4py = lambda library: None
    try:
        yield
    finally:
        pyasi.ScaLAPACK4py = original


def _voigt(stress: FloatArray) -> FloatArray:
    return to_voigt((stress + stress.T) / 2)


def _isolated(structure: Structure, control: ControlIn) -> dict[str, str | None]:
    """The keywords of control.in that an isolated atom has of its own."""
    charge, unpaired = charge_and_unpaired(structure, control)
    return {
        "charge": f"{charge:g}",
        "spin": "collinear" if unpaired else "none",
        "fixed_spin_moment": f"{unpaired}" if unpaired else None,
        "multiplicity": None,
        "default_initial_moment": None,
        # Of a crystal that the atom belongs to.
        "k_grid": None,
        "k_offset": None,
        "k_grid_density": None,
        "compute_analytical_stress": None,
    }


def library_problem(path: Path) -> str | None:
    """Say why a file can't be used as ASI library in this process.

    Args:
        path: of the shared object.

    Returns:
        One sentence, or None: it can.
    """
    where = f"REFERENCE.library (aims_lib_path): {path}"
    if not path.is_file():
        return f"{where} is not there; give the compiled FHI-aims library"
    if not os.access(path, os.R_OK):
        return f"{where} can't be read; see its permissions"
    import mpi4py.MPI

    # As asi4py does: the library may leave it to the process to bring MPI along.
    ours = ctypes.CDLL(mpi4py.MPI.__file__, mode=ctypes.RTLD_GLOBAL)
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        return f"{where} can't be loaded ({error}); give a shared library (.so), not an executable"
    missing = [name for name in SYMBOLS if not hasattr(library, name)]
    if missing:
        return (
            f"{where} is no ASI library: it lacks {', '.join(missing)}; compile FHI-aims as a "
            "library with its ASI interface"
        )
    if library.ASI_flavour() not in FLAVOURS:
        return (
            f"{where} reads other input files than FHI-aims (ASI_flavour {library.ASI_flavour()}); "
            "use another REFERENCE.engine for it"
        )
    here, there = _mpi_of(ours), _mpi_of(library)
    if there is not None and there != here:
        return (
            f"{where} is linked with the MPI in {there}, but mpi4py runs on {here}; "
            "they must be the same: build mpi4py with the library's MPI, or the library with "
            "mpi4py's"
        )
    return None


class _SymbolInfo(ctypes.Structure):
    _fields_ = (
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    )


def _mpi_of(library: ctypes.CDLL) -> str | None:
    """Name the file whose MPI a library calls; None where it takes the process's."""
    try:
        function = library.MPI_Comm_size
    except AttributeError:
        return None
    info = _SymbolInfo()
    ctypes.CDLL(None).dladdr(function, ctypes.byref(info))
    file: bytes = info.file
    return os.path.realpath(file.decode())
