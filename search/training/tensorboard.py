"""`search --tensorboard`: metrics and alphas as event files in the run's folder `tensorboard/`.

    weights/loss, weights/accuracy, alpha/loss, learning_rate, temperature, images_per_second
    probability/DEVICE/kappa_U/PRIMITIVE    mean over slots of softmax(alpha) at u_lambda = 0
    logits/DEVICE/kappa_U                   histogram of alpha itself

A resumed search hides what the interrupted search wrote beyond the step of its checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from search.alphas.condition import Condition
from shared.errors import LutnasError

FOLDER = "tensorboard"
U_KAPPAS = (0.0, 0.5, 1.0)
SCALARS = {
    "loss": "weights/loss",
    "accuracy": "weights/accuracy",
    "alpha_loss": "alpha/loss",
    "learning_rate": "learning_rate",
    "temperature": "temperature",
    "images_per_second": "images_per_second",
}
"""The curve of each metric."""


class TensorBoardLog:
    """Event files of one run.

    Args:
        step: at which the search resumes.

    Raises:
        LutnasError: TensorBoard is not installed.
    """

    def __init__(self, run: Path, step: int) -> None:
        self._writer = _summary_writer(run / FOLDER, step)

    def metrics(self, values: Mapping[str, Any]) -> None:
        """Write an entry of the run's metrics; those without a curve are skipped."""
        for name, tag in SCALARS.items():
            if name in values:
                self._writer.add_scalar(tag, values[name], values["step"])

    @torch.no_grad()
    def alphas(
        self,
        step: int,
        hypernetwork: Callable[[Tensor], Tensor],
        device: str,
        prices: Tensor,
        primitives: Sequence[str],
    ) -> None:
        """Write the alphas of a device at some trade-offs.

        Args:
            hypernetwork: from a condition's vector to logits (slots, primitives).
            prices: its point on the simplex.
            primitives: names of alpha's columns.
        """
        for u_kappa in U_KAPPAS:
            logits = hypernetwork(Condition(prices, 0.0, u_kappa).vector())
            self._writer.add_histogram(f"logits/{device}/kappa_{u_kappa:g}", logits, step)
            for name, share in zip(primitives, torch.softmax(logits, dim=1).mean(dim=0).tolist(), strict=True):
                self._writer.add_scalar(f"probability/{device}/kappa_{u_kappa:g}/{name}", share, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def _summary_writer(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter  # an extra, and slow to import
    except ImportError as error:
        raise LutnasError("--tensorboard needs the extra: pip install 'lutnas[tensorboard]'") from error
    return SummaryWriter(str(folder), purge_step=step + 1)
