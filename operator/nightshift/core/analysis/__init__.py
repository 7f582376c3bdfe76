"""Judging a candidate by evidence: what is measured, how it is compared, and what follows."""
