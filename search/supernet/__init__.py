"""The networks of a space in torch: every primitive, one derived network, and the supernet that shares weights."""

from search.supernet.batch_norm import BatchNorm, recompute_statistics
from search.supernet.network import Network
from search.supernet.primitives import OPS
from search.supernet.supernet import Choice, Supernet

__all__ = ["OPS", "BatchNorm", "Choice", "Network", "Supernet", "recompute_statistics"]
