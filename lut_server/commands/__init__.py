"""Commands of the server, a module each or one for a close family: `add(commands)` says which
options there are, and a function that takes the parsed arguments does it, prints, and returns the
exit code."""
