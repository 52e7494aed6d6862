"""The table server as the agent sees it: requests, uploads, downloaded graphs.

May import spool.
"""
