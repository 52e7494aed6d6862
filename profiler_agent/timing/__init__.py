"""The clock, the rounds, the stopping rules, and whether to believe a measurement.

May import host and ort.
"""
