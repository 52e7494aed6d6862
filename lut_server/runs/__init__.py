"""Runs and jobs: what must hold before they are stored, and what becomes of them.

May import calibration, tables and store.
"""
