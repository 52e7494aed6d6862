"""Phones at the end of a cable, for `profiler-agent adb`.

May import profile, server, spool and host.
"""
