"""How good a ranking is, how sure that is, and whether it beats another one."""
