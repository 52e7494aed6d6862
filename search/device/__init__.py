"""The device behind the table server: tables, kernel counts, verification.

May import runs, process and own_model. No other room speaks HTTP.
"""
