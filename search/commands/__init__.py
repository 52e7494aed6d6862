"""Commands of `search`, a module each: `add(commands)` says which options, `run(args)` does it and prints."""
