"""What the agent and the search share to ask a lut-server: the client, whom it trusts, and retries.

`shared.http.client` alone imports httpx, so that a command line starts without it.
"""
