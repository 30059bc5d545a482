"""The networks. No file is read here but the weights that a caller names."""
