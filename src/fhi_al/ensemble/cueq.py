"""Models that compute by NVIDIA's cuEquivariance, several times faster on a GPU, converted by MACE.

cuEquivariance: https://docs.nvidia.com/cuda/cuequivariance
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from importlib.util import find_spec
from typing import Any

from fhi_al.ensemble.architecture import default_dtype
from fhi_al.record.hush import hushed
from fhi_al.settings import Inputs

INSTALL = "pip install cuequivariance-torch cuequivariance-ops-torch-cu12"


def installed() -> bool:
    """Whether cuEquivariance is, with its kernels."""
    return all(find_spec(name) for name in ("cuequivariance_torch", "cuequivariance_ops_torch"))


def converts(inputs: Inputs, device: str) -> bool:
    """Whether cuEquivariance computes forces.

    Args:
        inputs: with the settings.
        device: where the models live, as torch names it.
    """
    wanted = inputs.mace.misc.enable_cueq is not False and not inputs.deterministic
    return wanted and device != "cpu" and installed()


class CuEquivariance:
    """Makes twins of models of one architecture: equal, but for how they compute.

    The first takes seconds, as coupling coefficients are computed anew. The others are copies of it
    that get other weights.
    """

    def __init__(self) -> None:
        self._twin: Any = None

    def twins(self, models: Sequence[Any]) -> list[Any]:
        """A twin of each model, on the same device.

        Raises:
            RuntimeError: MACE can't convert them.
        """
        try:
            return [self._twin_of(model) for model in models]
        # MACE converts some architectures only, and doesn't say in advance which.
        except Exception as error:
            raise RuntimeError(f"{type(error).__name__}: {error}") from error

    def _twin_of(self, model: Any) -> Any:
        from mace.cli.convert_e3nn_cueq import run, transfer_weights
        from mace.tools.scripts_utils import extract_config_mace_model

        weight = next(model.parameters())
        with default_dtype(str(weight.dtype).removeprefix("torch.")):
            if self._twin is None:
                with hushed():
                    self._twin = run(model, device=weight.device.type).to(weight.device)
            # What has no weights is shared: making it takes seconds.
            shared = {id(m): m for m in self._twin.modules() if not m.state_dict()}
            twin = deepcopy(self._twin, shared)
            config = extract_config_mace_model(model)
            transfer_weights(
                model,
                twin,
                len(config["hidden_irreps"].slices()) - 1,
                config["correlation"],
                config["num_interactions"],
                config["use_reduced_cg"],
                config.get("keep_last_layer_irreps", False),
            )
        return twin.requires_grad_(False).eval()
