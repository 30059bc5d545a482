"""The paper's tables as one command: the plan, the runs, the tables."""
