"""Benchmarks of the search: families, accuracy, speed, several devices, NAS-Bench-201."""
