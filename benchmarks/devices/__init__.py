"""Benchmarks of the way from a bare device to a table: installation, and the agent in a browser."""
