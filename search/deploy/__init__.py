"""From a member to a file on the device: export, int8, the ladder of budgets, upload of results.

May import family, retraining and what these may import.
"""
