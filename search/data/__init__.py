"""Images in memory: where they come from, how they are split, and how they become what a network takes."""

from search.data.augmentation import augment
from search.data.image_set import ImageSet, Splits, splits
from search.data.preprocessing import Preprocessing, at_resolution
from search.data.sources import load_images

__all__ = ["ImageSet", "Preprocessing", "Splits", "at_resolution", "augment", "load_images", "splits"]
