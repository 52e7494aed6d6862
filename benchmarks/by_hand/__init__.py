"""Networks that an engineer takes instead of a searched network, beside members of a family."""
