"""The commands of `lut-server`, a module each.

May import every room. Nothing imports this one but the command line itself.
"""
