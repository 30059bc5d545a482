"""From files to scores: which files, the network's answers in order, and a run that a kill does not lose."""
