"""From labelled samples to a trained potential."""
