"""The device behind the table server: tables, kernel counts, verification.

May import shared alone. No other room speaks HTTP.
"""
