"""Commands of the agent, a module each: `add(commands)` says which flags, `run(arguments)` does it and prints.

`options` and `table_output` are what several of them share.
"""
