"""Layers: tensors in, tensors out; irreps are part of their type."""
