"""Claims: what has been published about CompreSSM, what we claim, and what our records say of each.

`claims.toml` says how each is tested, `published_results.csv` what was published; `own_claims.toml`
has ours; see the README of the room. `read.all_claims` is the way in, `judge.judge` gives the
verdicts, `lines` and `section` show them.
"""
