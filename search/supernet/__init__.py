"""The networks of a space in torch: primitives, network, and supernet."""

from search.supernet.batch_norm import BatchNorm, recompute_statistics
from search.supernet.network import Network
from search.supernet.primitives import OPS
from search.supernet.supernet import Supernet

__all__ = ["OPS", "BatchNorm", "Network", "Supernet", "recompute_statistics"]
