"""Programs that install.sh hands to a device's own Python (standard library only, 3.11), each on
its standard input.

They are run on a device before lutnas is there, and are never imported by the server.
"""
