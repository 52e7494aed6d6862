"""The routes, one module per kind of thing. A route checks, calls the store and answers; logic
lives below."""
