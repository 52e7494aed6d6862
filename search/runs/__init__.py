"""A run's folder on disk: configuration, tables, checkpoint, results, environment.

May import alphas, supernet, data, latency and process.
"""
