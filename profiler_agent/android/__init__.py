"""Phones: what Android says of itself, and `profiler-agent adb`."""
