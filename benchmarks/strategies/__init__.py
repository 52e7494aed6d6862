"""Benchmarks of the strategies of the field, judged by a truth."""
