"""A device's latency table: prices, predictions with their bounds, sources, and the table as text.

May import measurements, kernels, spaces, runtime, wire and errors.
"""
