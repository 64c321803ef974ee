"""Compiled code for what committee members are asked all the time, several times faster than eager.

A function of one model (its forces, the gradient of its loss) is traced to one graph of plain
tensor operations, with weights and structures as inputs, and compiled ahead of time for one padded
shape. So all members use the same code, and training makes nothing invalid. Compiling takes a
minute: a process of its own does it while the eager path works. The result is kept in the user's
cache for later runs.

Nothing here is trusted: who uses the code compares it with the eager model first (`code.py`).
"""

from __future__ import annotations

import ctypes
import hashlib
import inspect
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fhi_al.fast import contraction, tracing
from fhi_al.fast.padding import PaddedShape
from fhi_al.fast.tracing import Function, trace


def cache_folder() -> Path:
    """Where compiled code is kept: `$FHI_AL_CACHE`, by default `~/.cache/fhi_al`."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fhi_al"
    return Path(os.environ.get("FHI_AL_CACHE") or default)


class Compilation:
    """Code for one function, architecture and shape: in the cache, or being compiled.

    Args:
        function: to compile.
        model: any member; only its architecture counts.
        inputs: of the function, that the shape holds.
        shape: to compile for.
    """

    kind = "compiled"

    def __init__(
        self, function: Function, model: Any, inputs: Mapping[str, torch.Tensor], shape: PaddedShape
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
                reason = lines[-1] if lines else "it ended without a word"
                raise RuntimeError(f"compiling failed: {reason}")
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
            [_digest_of(t) for t in contraction.constants_of(model, self._function.contraction)],
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
