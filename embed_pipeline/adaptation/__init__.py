"""Stage `adaptation`: better retrieval from vectors that are already there, without touching a model.

`settings` says what to do, `nudge` moves corpus vectors, `linear` and `whitening` make a matrix, `adapter` keeps it and
puts it behind an encoder, `ranks` says whether it can work and measures all of it in bounded memory.
"""
