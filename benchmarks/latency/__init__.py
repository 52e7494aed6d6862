"""Benchmarks of the measured numbers: errors of tables, repeatability, memory, other ways of
measuring.
"""
