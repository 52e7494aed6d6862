"""The family of a device: candidates, their Pareto front, and the pick for a budget.

May import ranking, decoding, device, runs, alphas and what these may import.
"""
