"""What the server keeps, on SQLite or PostgreSQL through SQLAlchemy.

May import clock and error_codes.
"""
