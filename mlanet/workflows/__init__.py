"""What people do with a trained potential: predict, evaluate (and, later, relax, run MD, compute phonons)."""
