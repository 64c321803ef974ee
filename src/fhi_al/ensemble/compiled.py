"""A compiled path for the committee's forces, several times faster than the eager one.

The energy of one member and its gradient are traced to one graph of plain tensor operations, with
weights and structures as inputs, and compiled ahead of time for one padded shape. So all members
use the same code, and training makes nothing invalid. Compiling takes a minute: a process of its
own does it while the eager path works. The result is kept in the user's cache for later runs.

Nothing here is trusted: before its first use, and after every change of weights, the compiled
code is compared with the eager models, and dropped where it differs.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

log = logging.getLogger(__name__)

Tensors = dict[str, torch.Tensor]
Forces = tuple[torch.Tensor, torch.Tensor]
"""(members, structures) energies in eV and (members, atoms, 3) forces in eV/Å."""

PATIENCE_SECONDS = 20.0
"""Of eager evaluation before it is worth compiling: shorter runs would not get it back."""

# Largest difference of forces that rounding explains, relative to the largest force.
_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-10}
_INPUTS = ("positions", "node_attrs", "edge_index", "shifts", "batch", "head")


def cache_folder() -> Path:
    """Where compiled code is kept: `$FHI_AL_CACHE`, by default `~/.cache/fhi_al`."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fhi_al"
    return Path(os.environ.get("FHI_AL_CACHE") or default)


@dataclass(frozen=True)
class Shape:
    """Sizes that compiled code is made for, padding included.

    Attributes:
        structures: one more than there can be.
        atoms: two more than there can be, at least.
        edges: as many as there can be.
    """

    structures: int
    atoms: int
    edges: int

    @classmethod
    def with_room(cls, inputs: Tensors, expected: int) -> Shape:
        """Make a shape for inputs like these.

        Args:
            inputs: of a model.
            expected: structures that there will often be.
        """
        structures, atoms, edges = _sizes(inputs)
        scale = max(1.0, expected / structures)
        return cls(
            structures=max(structures, expected) + 1,
            atoms=math.ceil(scale * atoms) + 2,
            edges=_round_up(1.1 * scale * edges),
        )

    def holds(self, inputs: Tensors) -> bool:
        """Whether inputs fit."""
        structures, atoms, edges = _sizes(inputs)
        return structures < self.structures and atoms + 2 <= self.atoms and edges <= self.edges

    def union(self, other: Shape) -> Shape:
        """The smallest shape that holds what either of two holds."""
        return Shape(
            max(self.structures, other.structures),
            max(self.atoms, other.atoms),
            max(self.edges, other.edges),
        )


def _sizes(inputs: Tensors) -> tuple[int, int, int]:
    return len(inputs["head"]), len(inputs["positions"]), inputs["edge_index"].shape[1]


def _round_up(number: float) -> int:
    """To three binary digits, so that similar systems share compiled code."""
    unit = 1 << max(0, math.floor(math.log2(max(number, 1))) - 2)
    return math.ceil(number / unit) * unit


def pad(inputs: Tensors, shape: Shape, cutoff: float) -> Tensors:
    """Fill inputs up to a shape with a structure that no other one feels.

    Its last two atoms carry all surplus edges. They are twice the cutoff apart: an edge without
    length has no gradient. So nothing is asked of the model about edges beyond its cutoff.

    Args:
        inputs: of a model.
        shape: that holds them.
        cutoff: of the model, in Å.
    """
    _, atoms, edges = _sizes(inputs)
    more = shape.atoms - atoms
    positions = inputs["positions"].new_zeros((more, 3))
    positions[-1, 0] = 2 * cutoff
    species = inputs["node_attrs"].new_zeros((more, inputs["node_attrs"].shape[1]))
    species[:, 0] = 1.0
    surplus = inputs["edge_index"].new_empty((2, shape.edges - edges))
    surplus[0], surplus[1] = shape.atoms - 2, shape.atoms - 1
    return {
        "positions": torch.cat([inputs["positions"], positions]),
        "node_attrs": torch.cat([inputs["node_attrs"], species]),
        "edge_index": torch.cat([inputs["edge_index"], surplus], dim=1),
        "shifts": torch.cat(
            [inputs["shifts"], inputs["shifts"].new_zeros((shape.edges - edges, 3))]
        ),
        "batch": torch.cat(
            [inputs["batch"], inputs["batch"].new_full((more,), shape.structures - 1)]
        ),
        "head": inputs["head"].new_full((shape.structures,), int(inputs["head"][0])),
    }


class FastForces:
    """Evaluates a committee by compiled code once there is some, else by the eager models.

    Args:
        expected: structures that are usually evaluated together.
        patience_seconds: of eager evaluation before code is compiled that is not in the cache.
    """

    def __init__(self, expected: int, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self.path = "eager"
        self._expected = expected
        self._patience = patience_seconds
        self._spent = 0.0
        self._wanted: Shape | None = None
        self._shape: Shape | None = None
        self._code: Any = None
        self._compilation: Compilation | None = None
        self._next: Compilation | None = None
        self._checked = False
        self._failed = False

    def load(self, models: Sequence[Any]) -> None:
        """Take other models, or the same with other weights."""
        self._models = models
        self._weights = [_tensors(model) for model in models]
        self._checked = False

    def evaluate(self, inputs: Tensors, eager: Callable[[], Forces]) -> Forces:
        """Energies and forces of a batch that molecular dynamics moves.

        Args:
            inputs: of a model.
            eager: evaluates the same with the models themselves.
        """
        if not self._failed:
            self._prepare(inputs)
        if self._code is None or self._shape is None or not self._shape.holds(inputs):
            self.path = "eager"
            began = time.perf_counter()
            out = eager()
            self._spent += time.perf_counter() - began
            return out
        if not self._checked:
            return self._check(inputs, eager)
        self.path = "compiled"
        return self._run(inputs)

    def _prepare(self, inputs: Tensors) -> None:
        """Get code for inputs of this size: from the cache, or by having it compiled."""
        if self._compilation is not None:
            if not self._compilation.finished():
                return
            self._take(self._compilation)
            self._compilation = None
            return
        if self._shape is not None and self._shape.holds(inputs):
            return
        if self._wanted is None or not self._wanted.holds(inputs):
            wanted = Shape.with_room(inputs, self._expected)
            self._wanted = wanted if self._wanted is None else wanted.union(self._wanted)
        if self._next is None or self._next.shape != self._wanted:
            self._next = Compilation(self._models[0], self._wanted, inputs)
        if self._next.in_cache():
            self._take(self._next)
            self._next = None
        elif self._spent > self._patience:
            log.info("compiling the committee's forces for %s in the background", self._wanted)
            self._next.begin()
            self._compilation, self._next = self._next, None

    def _take(self, compilation: Compilation) -> None:
        try:
            self._code = compilation.load()
        except (OSError, RuntimeError) as error:
            self._give_up(f"compiling failed: {error}")
        else:
            self._shape = compilation.shape
            self._checked = False

    def _check(self, inputs: Tensors, eager: Callable[[], Forces]) -> Forces:
        """Compare with the eager models, in values and, the first time, in speed."""
        began = time.perf_counter()
        out = eager()
        slow = time.perf_counter() - began
        fast = math.inf
        for _ in range(3):
            began = time.perf_counter()
            _, forces = self._run(inputs)
            fast = min(fast, time.perf_counter() - began)
        largest = float(out[1].abs().max())
        if not math.isfinite(largest):
            return out
        error = float((forces - out[1]).abs().max())
        allowed = _TOLERANCE[inputs["positions"].dtype] * max(largest, 0.01)
        if error > allowed:
            self._give_up(f"compiled code differs by {error:.1e} eV/Å, {allowed:.1e} is allowed")
        elif self.path == "eager" and fast > slow:
            self._give_up(f"compiled code takes {1e3 * fast:.1f} ms, eager {1e3 * slow:.1f} ms")
        else:
            if self.path == "eager":
                log.info(
                    "forces are compiled: %.1f ms a step, eager %.1f ms; they differ by %.1e eV/Å",
                    1e3 * fast,
                    1e3 * slow,
                    error,
                )
            self._checked = True
        return out

    def _give_up(self, reason: str) -> None:
        self._code, self._failed, self.path = None, True, "eager"
        log.warning("the committee's forces stay eager: %s", reason)

    def _run(self, inputs: Tensors) -> Forces:
        assert self._shape is not None
        structures, atoms, _ = _sizes(inputs)
        padded = pad(inputs, self._shape, float(self._models[0].r_max))
        arguments = [padded[name] for name in _INPUTS]
        results = [self._code(*weights, *arguments) for weights in self._weights]
        return (
            torch.stack([energies[:structures].double() for energies, _ in results]),
            torch.stack([forces[:atoms].double() for _, forces in results]),
        )


class Compilation:
    """Code for one architecture and shape: in the cache, or being compiled.

    Args:
        model: any member; only its architecture counts.
        shape: to compile for.
        inputs: of a model, that the shape holds.
    """

    def __init__(self, model: Any, shape: Shape, inputs: Tensors) -> None:
        self.shape = shape
        self._model = model
        self._inputs = pad(inputs, shape, float(model.r_max))
        self._process: subprocess.Popen[bytes] | None = None
        self.file = cache_folder() / f"{self._digest()}.pt2"

    def in_cache(self) -> bool:
        """Whether it was compiled before."""
        return self.file.is_file()

    def begin(self) -> None:
        """Compile in a process of its own."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="fhi_al-compile-"))
        torch.save((self._model, self._inputs), folder / "request.pt")
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor")}
        threads = str(torch.get_num_threads())
        with (folder / "log").open("wb") as output:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    __name__,
                    str(folder),
                    str(self.file),
                    threads,
                    str(os.getpid()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                # Nothing in the run's folder can pass for a module.
                cwd=folder,
            )
        self._folder = folder
        self._clean_up = weakref.finalize(self, _end, self._process, folder)

    def finished(self) -> bool:
        """Whether the process has ended, well or not."""
        return self._process is None or self._process.poll() is not None

    def load(self) -> Any:
        """Load the compiled code: a function of weights and inputs.

        Raises:
            RuntimeError: compiling failed, or the code can't be loaded.
        """
        try:
            if not self.in_cache():
                lines = (self._folder / "log").read_text(errors="replace").strip().splitlines()
                raise RuntimeError(lines[-1] if lines else "it ended without a word")
            return torch._inductor.aoti_load_package(str(self.file))
        finally:
            if self._process is not None:
                self._clean_up()

    def _digest(self) -> str:
        model = self._model
        facts = (
            repr(model),
            [float(block.avg_num_neighbors) for block in model.interactions],
            [(name, tuple(tensor.shape)) for name, tensor in model.state_dict().items()],
            self.shape,
            {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in self._inputs.items()},
            torch.__version__,
            torch.get_num_threads(),
            torch.backends.cpu.get_cpu_capability(),
        )
        return hashlib.sha256(repr(facts).encode()).hexdigest()


def _end(process: subprocess.Popen[bytes], folder: Path) -> None:
    process.kill()
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)


def _tensors(model: torch.nn.Module) -> list[torch.Tensor]:
    return [*model.parameters(), *model.buffers()]


def _trace(model: Any, inputs: Tensors) -> tuple[torch.fx.GraphModule, tuple[torch.Tensor, ...]]:
    """Write one member's energy and its gradient as a graph, with all tensors as arguments."""
    from torch.fx.experimental.proxy_tensor import make_fx

    names = [name for name, _ in (*model.named_parameters(), *model.named_buffers())]
    n_structures = len(inputs["head"])

    def energy_and_forces(*arguments: torch.Tensor) -> Forces:
        weights = dict(zip(names, arguments, strict=False))
        data = dict(zip(_INPUTS, arguments[len(names) :], strict=True))
        positions = data["positions"].detach().requires_grad_(True)
        data["positions"] = positions
        # Of these the model takes the sizes alone.
        data["ptr"] = data["batch"].new_zeros(n_structures + 1)
        data["cell"] = positions.new_zeros((3 * n_structures, 3))
        out = torch.func.functional_call(model, weights, (data,), {"compute_force": False})
        energies = out["energy"]
        (gradient,) = torch.autograd.grad(energies.sum(), positions)
        return energies.detach(), -gradient

    arguments = (*_tensors(model), *(inputs[name] for name in _INPUTS))
    # Twice: TorchScript's functions can be traced, but only then freed of mutations.
    graph = make_fx(energy_and_forces, tracing_mode="real")(*arguments)
    graph = make_fx(torch.func.functionalize(graph, remove="mutations"))(*arguments)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph, arguments


def _compile(folder: Path, target: Path) -> None:
    """Do what `Compilation.begin` asks for."""
    # Written by our own parent process, in a folder that is the user's alone.
    model, inputs = torch.load(folder / "request.pt", weights_only=False)
    graph, arguments = _trace(model.requires_grad_(False), inputs)
    with torch.no_grad():
        program = torch.export.export(graph, arguments, strict=False)
        package = folder / "code.pt2"
        torch._inductor.aoti_compile_and_package(program, package_path=str(package))
    # In one step: other processes may look for it.
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copyfile(package, partial)
    partial.replace(target)


def _main() -> None:
    folder, target, threads, parent = sys.argv[1:]
    # The parent may be killed at any time; nobody would stop us then.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != int(parent):
        sys.exit("the parent process is gone")
    # The reference has the first right to the processor.
    os.nice(5)
    torch.set_num_threads(int(threads))
    _compile(Path(folder), Path(target))


if __name__ == "__main__":
    _main()
