"""Commands of `search`, a module each: `add(commands)` adds the options, `run(args)` does the work."""
