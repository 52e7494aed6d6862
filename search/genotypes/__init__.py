"""Genotypes as such: drawing the most probable, listing all, crossover and mutation.

May import process.
"""
