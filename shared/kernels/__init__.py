"""Kernels, what a runtime executes, and how many of each a graph holds.

May import errors and wire alone.
"""
