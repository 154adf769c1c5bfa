"""Stage `adaptation`: better retrieval from vectors that are already there, without touching a model.

`settings` says what to do, `reach` whether it can work, `nudge` moves corpus vectors, `linear` trains a matrix,
`adapter` keeps it and puts it behind an encoder, `ranks` measures all of it in bounded memory.
"""
