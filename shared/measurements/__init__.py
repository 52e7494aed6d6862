"""Measurements: graph references, plans, raw values, statistics.

May import kernels, spaces, runtime, wire and errors.
"""
