"""Networks trained to the end, and short trainings from inherited weights.

May import training, runs, supernet, data and process.
"""
