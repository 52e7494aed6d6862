"""Alphas as a function of the condition (prices of a device, trade-offs), and what they expect.

May import genotypes, latency and process.
"""
