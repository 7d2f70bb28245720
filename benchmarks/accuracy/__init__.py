"""Errors of variants of a model after the same training, on several kinds of data: which switches pay."""
