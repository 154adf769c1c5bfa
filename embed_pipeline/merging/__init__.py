"""Stage `merging`: base and tuned weights mixed, and which mixture users should take.

`settings` says what to try, `mixing` writes mixtures, `promotion` measures them and chooses one.
"""
