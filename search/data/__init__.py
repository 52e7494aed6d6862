"""Images in memory: their sources, their splits, and their way to a network's input."""

from search.data.image_set import ImageSet, Splits, splits
from search.data.preprocessing import Preprocessing, at_resolution, augment
from search.data.sources import load_images

__all__ = ["ImageSet", "Preprocessing", "Splits", "at_resolution", "augment", "load_images", "splits"]
