"""The cost of networks by a device's table, for thousands at once.

May import no other room.
"""
