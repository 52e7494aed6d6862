"""Runs on the measured device: times the graphs of a plan and hands in the raw values."""
