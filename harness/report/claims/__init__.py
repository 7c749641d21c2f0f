"""Claims: what has been published about CompreSSM, and what our records say about each of it.

`claims.toml` says how each is tested, `published_results.csv` what was published; see the README of
the room. `read.read_claims` is the way in, `judge.judge` gives the verdicts, `lines` and `section`
show them.
"""
