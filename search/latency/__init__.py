"""What a network costs by a device's table, for thousands of networks at once.

May import no other room.
"""
