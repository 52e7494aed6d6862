"""One module per subcommand of `search`: `add_arguments(parser)` and `run(args, console) -> exit code`."""
