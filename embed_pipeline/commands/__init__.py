"""The command line, a module per group of commands: arguments and what is printed; the work is done elsewhere."""
