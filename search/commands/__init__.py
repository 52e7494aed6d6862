"""Commands of `search`: in each module `add(commands)` adds the options, `run(args)` works."""
