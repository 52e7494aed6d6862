"""Names, keys and values of the three programs. Standard library only, except `shared.graphs`."""

__version__ = "0.1.0"
