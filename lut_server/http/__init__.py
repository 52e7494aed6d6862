"""The server's edge: request bodies, responses, errors, logs, metrics. The routes are a room
inside.

May import store, auth and settings; routes may import every room that answers a question.
"""
