"""What the three programs have in common: names, keys and values. Standard library only, `shared.graphs` apart."""

__version__ = "0.1.0"
