"""Accuracies that papers publish, for comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """Test accuracies by data set, percent, and seconds of the search on the authors' GPU."""

    cifar10: float
    cifar100: float
    imagenet16_120: float
    search_s: float | None = None


NAS_BENCH_201: Mapping[str, Published] = {
    "random": Published(87.66, 58.33, 31.14, 8007.13),
    "darts": Published(54.30, 15.61, 16.32, 10889.87),
    "darts:order=2": Published(54.30, 15.61, 16.32, 29901.67),
    "gdas": Published(93.61, 70.70, 41.84, 28925.91),
    "dca-nas": Published(94.32, 72.4, 43.1, 3800),
    "resnet": Published(93.97, 70.86, 43.63),
    "enas": Published(54.30, 15.61, 16.32, 13314.51),
    "te-nas": Published(93.9, 71.24, 42.38, 1558),
    "snas": Published(92.77, 69.34, 43.16),
    "pc-darts": Published(93.41, 67.48, 41.31, 8012),
    "idarts": Published(93.58, 70.83, 40.89),
    "drnas": Published(94.36, 73.51, 46.34, 8219),
    "shapley-nas": Published(94.37, 73.51, 46.85),
    "optimal": Published(94.37, 73.51, 47.31),
}
"""Table 1 of DCA-NAS' appendix (Dutta, Kanvar and Agarwal, 2023). "random" is RSPS (Li and
Talwalkar, 2020); "dca-nas" allows 6 million parameters, which every network of the space keeps."""
