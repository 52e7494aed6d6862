"""Strategies beside each other, and how well a ranking foretold full trainings.

May import strategies, deploy and family.
"""
