"""Distillation: a slow, accurate teacher labels structures, and a small, fast student is trained on the labels.

`config` says what is wanted, `seeds` and `structures` draw structures, `teacher` and `worker` label them in another
interpreter, `store` keeps the labels.
"""
