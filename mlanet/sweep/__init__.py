"""Many trainings under one budget: presets × l_max × training sizes × seeds, judged on the same held-out structures."""
