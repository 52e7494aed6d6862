"""Scores of candidates, and their ranks.

May import runs, supernet, genotypes, data and process.
"""
