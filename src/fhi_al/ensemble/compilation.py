"""Compiled code for what committee members are asked all the time, several times faster than eager.

A function of one model (its forces, the gradient of its loss) is traced to one graph of plain
tensor operations, with weights and structures as inputs, and compiled ahead of time for one padded
shape. So all members use the same code, and training makes nothing invalid. Compiling takes a
minute: a process of its own does it while the eager path works. The result is kept in the user's
cache for later runs.

Nothing here is trusted: who uses the code compares it with the eager model first.
"""

from __future__ import annotations

import ctypes
import hashlib
import inspect
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fhi_al.ensemble import contraction, tracing
from fhi_al.ensemble.padding import Shape
from fhi_al.ensemble.tracing import Function, trace

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 20.0
"""Of eager evaluation before it is worth compiling: shorter runs would not get it back."""

_MAX_FAILURES = 3
"""Comparisons in a row that go wrong before code is given up."""

# Largest difference that rounding explains, relative to the largest number.
_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-10}


def allowed_error(largest: torch.Tensor | float, dtype: torch.dtype) -> float:
    """What rounding explains: the largest error of numbers that are at most so large."""
    return _TOLERANCE[dtype] * float(largest)


def cache_folder() -> Path:
    """Where compiled code is kept: `$FHI_AL_CACHE`, by default `~/.cache/fhi_al`."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fhi_al"
    return Path(os.environ.get("FHI_AL_CACHE") or default)


# --- code in use -------------------------------------------------------------------------------


class Trust:
    """Trust in code, by comparisons with the eager model.

    Where numbers are badly conditioned (atoms that come too close), rounding alone can exceed what
    is allowed: the eager path goes on until the next comparison.

    Attributes:
        due: whether to compare before the code is used.
        given: whether the last comparison was good.
    """

    def __init__(self) -> None:
        self.due = True
        self.given = False
        self._failures = 0

    @property
    def lost(self) -> bool:
        """Whether several comparisons in a row were not good, so that the code is wrong."""
        return self._failures >= _MAX_FAILURES

    def doubt(self) -> None:
        """Compare again before the code is used."""
        self.due, self.given = True, False

    def compared(self, right: bool) -> None:
        """Take the result of a comparison."""
        self.due, self.given = False, right
        self._failures = 0 if right else self._failures + 1


class Code:
    """A function, compiled once that pays, and again where its inputs outgrow it.

    Args:
        function: what it computes.
        what: that is in words, for the log.
        patience_seconds: of eager evaluation before code is compiled that is not in the cache.

    Attributes:
        path: how the function was evaluated the last time: `eager` or `compiled`.
        trust: whether the code was found to be right; its user doubts it when weights change.
        failed: whether there will be no code.
    """

    def __init__(
        self, function: Function, what: str, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self.function = function
        self.path = "eager"
        self.trust = Trust()
        self._what = what
        self._patience = patience_seconds
        self._spent = 0.0
        self._wanted: Shape | None = None
        self._shape: Shape | None = None
        self._run: Any = None
        self._compilation: Compilation | None = None
        self._next: Compilation | None = None
        self.failed = False

    @property
    def awaited(self) -> bool:
        """Whether there is no code in use yet, but may be."""
        return self.path == "eager" and not self.failed

    def find(self, model: Any, inputs: Mapping[str, torch.Tensor], needed: Shape) -> bool:
        """Whether there is code for inputs of this size: had, in the cache, or just compiled.

        Args:
            model: any member; only its architecture counts.
            inputs: of the function.
            needed: a shape that holds them, and others that are likely to come.
        """
        if not self.failed:
            self._prepare(model, inputs, needed)
        if self.holds(inputs):
            return True
        self.path = "eager"
        return False

    def holds(self, inputs: Mapping[str, torch.Tensor]) -> bool:
        """Whether there is code that inputs fit into."""
        return self._run is not None and self._shape is not None and self._shape.holds(inputs)

    def spend(self, seconds: float) -> None:
        """Count time that the eager path took for want of code."""
        self._spent += seconds

    def __call__(
        self, weights: Sequence[torch.Tensor], inputs: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, ...]:
        """Run the code that was found.

        Args:
            weights: of one member, as `tensors_of` gives them.
            inputs: of the function, not padded yet.

        Returns:
            What the function does, padding included.
        """
        assert self._shape is not None
        results = self._run(*weights, *self.function.pad(inputs, self._shape).values())
        return tuple(results)

    def judge(self, error: float, largest: float, unit: str, *, eager: float, fast: float) -> None:
        """Trust the code, or don't, or give it up.

        Args:
            error: of its results, as an absolute difference from the eager path's.
            largest: number among the eager path's results.
            unit: of these.
            eager: seconds that the eager path took; counts the first time.
            fast: seconds that the code took.
        """
        allowed = allowed_error(largest, self._dtype)
        self.trust.compared(error <= allowed)
        if not self.trust.given:
            reason = f"compiled code differs by {error:.1e} {unit}, {allowed:.1e} is allowed"
            if self.trust.lost:
                self._give_up(reason)
            else:
                log.info("%s: eager for now, as %s", self._what, reason)
                self.path = "eager"
        elif self.path == "eager" and fast > eager:
            self._give_up(f"compiled code takes {1e3 * fast:.1f} ms, eager {1e3 * eager:.1f} ms")
        elif self.path == "eager":
            log.info(
                "compiled %s: %.1f ms a step, eager %.1f ms; they differ by %.1e %s",
                self._what,
                1e3 * fast,
                1e3 * eager,
                error,
                unit,
            )

    def _prepare(self, model: Any, inputs: Mapping[str, torch.Tensor], needed: Shape) -> None:
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
            self._wanted = needed if self._wanted is None else needed.union(self._wanted)
        if self._next is None or self._next.shape != self._wanted:
            self._next = Compilation(self.function, model, inputs, self._wanted)
        if self._next.in_cache():
            self._take(self._next)
            self._next = None
        elif self._spent > self._patience:
            log.info("compiling %s for %s in the background", self._what, self._wanted)
            self._next.begin()
            self._compilation, self._next = self._next, None

    def _take(self, compilation: Compilation) -> None:
        try:
            self._run = compilation.load()
        except (OSError, RuntimeError) as error:
            self._give_up(f"compiling failed: {error}")
        else:
            self._shape, self._dtype = compilation.shape, compilation.dtype
            self.trust.doubt()

    def _give_up(self, reason: str) -> None:
        self._run, self.failed, self.path = None, True, "eager"
        self.trust.doubt()
        log.warning("%s: it stays eager: %s", self._what, reason)


class Compilation:
    """Code for one function, architecture and shape: in the cache, or being compiled.

    Args:
        function: to compile.
        model: any member; only its architecture counts.
        inputs: of the function, that the shape holds.
        shape: to compile for.
    """

    def __init__(
        self, function: Function, model: Any, inputs: Mapping[str, torch.Tensor], shape: Shape
    ) -> None:
        self.shape = shape
        self.dtype = inputs["positions"].dtype
        self._function = function
        self._model = model
        self._inputs = function.pad(inputs, shape)
        self._process: subprocess.Popen[bytes] | None = None
        self.file = cache_folder() / f"{self._digest()}.pt2"

    def in_cache(self) -> bool:
        """Whether it was compiled before."""
        return self.file.is_file()

    def begin(self) -> None:
        """Compile in a process of its own."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="fhi_al-compile-"))
        torch.save((self._function, self._model, self._inputs), folder / "request.pt")
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
            repr(self._function),
            # Another version of the program may trace the same function to another graph.
            [inspect.getsource(origin) for origin in (type(self._function), contraction, tracing)],
            # Isolated atoms, scale and shift are tensors that the code takes.
            re.sub(r"(AtomicEnergiesBlock|ScaleShiftBlock)\([^()]*\)", r"\1", repr(model)),
            [(name, tuple(tensor.shape)) for name, tensor in model.state_dict().items()],
            [_digest_of(tensor) for tensor in contraction.constants_of(model)],
            self.shape,
            {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in self._inputs.items()},
            torch.__version__,
            torch.get_num_threads(),
            torch.backends.cpu.get_cpu_capability(),
        )
        return hashlib.sha256(repr(facts).encode()).hexdigest()


def _digest_of(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.cpu().numpy().tobytes()).hexdigest()


def _end(process: subprocess.Popen[bytes], folder: Path) -> None:
    process.kill()
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)


def _compile(folder: Path, target: Path) -> None:
    """Do what `Compilation.begin` asks for."""
    # Written by our own parent process, in a folder that is the user's alone.
    function, model, inputs = torch.load(folder / "request.pt", weights_only=False)
    graph, arguments = trace(function, model, inputs)
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
    torch.set_num_threads(int(threads))
    _compile(Path(folder), Path(target))


if __name__ == "__main__":
    _main()
