"""The most probable networks under a latency bound, exactly.

May import genotypes and latency.
"""
