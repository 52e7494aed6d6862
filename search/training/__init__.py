"""The bilevel training of supernet and hypernetwork.

May import runs and what runs may import.
"""
