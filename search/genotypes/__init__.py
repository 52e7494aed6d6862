"""Genotypes: the most probable, random draws, crossover and mutation.

May import process.
"""
