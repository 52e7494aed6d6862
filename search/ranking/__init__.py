"""The order of candidates: their scores, and how several orders become one.

May import runs, supernet, genotypes, data and process.
"""
