"""Pages for people: what the server knows, as HTML and, with `?format=json`, as JSON from the same query.

They read and never write: no page changes anything, but for the cookie of somebody who signs in.
"""
