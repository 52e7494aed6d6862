"""Commands of the agent, a module each: `add(commands)` adds its flags, `run(arguments)` does and
prints it.

May import every other room. `options` has what several commands share.
"""
