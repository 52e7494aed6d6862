"""Files on the device: whatever was measured is on disk before anything else happens.

May import shared alone.
"""
