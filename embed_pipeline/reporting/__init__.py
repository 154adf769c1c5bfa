"""Where numbers are kept and how people see them: database, terminal, plots, page."""
