"""Raw-tensor operations: torch in, torch out; no layer, graph or file."""
