"""Benchmarks of the measured latencies: errors, repeatability, memory, other ways to measure."""
