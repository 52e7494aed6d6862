"""Runs on the device that is measured: times the graphs that the server plans, and hands in the raw
values.
"""
