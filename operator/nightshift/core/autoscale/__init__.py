"""How many replicas a deployment is to have in scaling.mode Auto.

`decide.decide` is the only place that decides: another way of deciding takes its place, and nothing else changes.
`load` reads what gateway and engines say, `history` keeps the highest of the last minutes, `scaling` puts the number
into the plan, and `telling` words it.
"""
