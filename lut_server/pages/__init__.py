"""Pages for people, and the same as JSON with `?format=json`. No page writes but the form to sign
in.
"""
