"""Commands of the agent that need no server, one module each: its flags, what it runs, what it prints."""
