"""Programs of install.sh for a device's Python (3.11, standard library only).

They run on a device before lutnas is there. The server does not import them.
"""
