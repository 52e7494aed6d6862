"""Genotypes: the most probable, random draws, enumeration, crossover and mutation.

May import process.
"""
