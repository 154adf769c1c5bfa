"""The heavy steps on a Ray cluster: encoding, the search for negatives, training. Where they run changes no bytes.

`cluster` joins it and says what its nodes have and see; `encoding`, `searching` and `training` each run one kind of
work on them, behind the protocols that the work has on one machine. Without an address ray is never imported.
"""
