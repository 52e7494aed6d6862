"""Campaigns: profile a space, measure single kernels, verify a model, with or without a server.

May import every other room but commands and android.
"""
