"""The HTTP client of the agent and the search: requests, trusted certificates, retries.

Only `shared.http.client` imports httpx, so that a command line starts without it.
"""
