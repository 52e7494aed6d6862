"""What is measured, and the measurement itself: graph references, plans, raw values, statistics.

May import kernels, spaces, runtime, wire and errors.
"""
