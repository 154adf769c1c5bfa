"""The commands, a module for each kind: arguments and what is printed; the work is done elsewhere."""
