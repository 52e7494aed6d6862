"""Running means of what training reports."""

from __future__ import annotations

from statistics import fmean


class Meter:
    """Losses and accuracies since the last flush.

    Args:
        now_s: time of a steady clock.
        images: per update of the weights.
    """

    def __init__(self, now_s: float, images: int) -> None:
        self._since_s, self._images = now_s, images
        self._losses: list[float] = []
        self._accuracies: list[float] = []
        self.alpha_losses: list[float] = []
        self._shown: dict[str, float] = {}

    def add(self, loss: float, accuracy: float) -> None:
        """One update of the weights."""
        self._losses.append(loss)
        self._accuracies.append(accuracy)

    def shown(self) -> dict[str, float]:
        """The means of the last full interval, for the progress bar."""
        return self._shown

    def flush(self, now_s: float) -> dict[str, float]:
        """Means since the last flush, accuracy in percent, and begin anew."""
        means = {"loss": fmean(self._losses), "accuracy": 100 * fmean(self._accuracies)}
        if self.alpha_losses:
            means["alpha_loss"] = fmean(self.alpha_losses)
        elapsed_s = now_s - self._since_s
        if elapsed_s > 0:
            means["images_per_second"] = round(self._images * len(self._losses) / elapsed_s, 1)
        self._shown = means
        self._since_s, self._losses, self._accuracies, self.alpha_losses = now_s, [], [], []
        return {**means, "elapsed_s": round(elapsed_s, 3)}
