"""From files to scores: which files, the network's answers in order, heatmaps."""
