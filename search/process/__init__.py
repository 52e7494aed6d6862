"""The process that searches: threads, memory, random generators, interruption, progress, files.

May import no other room.
"""
