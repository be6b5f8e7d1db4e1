"""What the tools answered before the code was made smaller, and a comparison with today's.

`python -m tests.oracle compare [--fast] [--group GROUP] [CASE ...]`. `cases.toml` lists the calls,
`record.json` holds what they returned at the commit it names and is never written again, and
`losses.toml` lists the differences that are intended, each with its reason.
"""
