"""Memory and speed of models, measured, explained and predicted."""
