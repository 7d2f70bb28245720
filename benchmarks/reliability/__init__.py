"""Sixty checks of reliability; `python benchmarks/reliability`."""
