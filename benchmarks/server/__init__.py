"""Benchmarks of the server: requests, a fleet of agents, servers that are killed."""
