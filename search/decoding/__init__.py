"""The most probable networks under a latency bound, exactly; small spaces enumerated.

May import genotypes and latency.
"""
