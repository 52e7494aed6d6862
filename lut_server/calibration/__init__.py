"""From raw measurements to prices with their covariance and their measured error.

May import shared, numpy and scipy. It knows no database and no request.
"""
