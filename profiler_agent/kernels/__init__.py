"""Which kernels the runtime executes for a graph or a file, and what they cost together.

May import server, spool and ort.
"""
