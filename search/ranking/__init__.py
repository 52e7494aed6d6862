"""Scores of candidates, and their ranks.

May import runs, supernet, genotypes, alphas, data and process.
"""
