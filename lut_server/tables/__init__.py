"""Stored tables: which table is meant, what it predicts, and what people see of it.

May import store.
"""
