"""Sums of smooth power laws over all pairs, in boxes with any number of periodic directions."""
