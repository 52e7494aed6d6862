"""The routes, a module per kind of thing. A route checks, calls the store and answers."""
