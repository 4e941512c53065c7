"""Training the planner of an agent: demonstrations, corrections, and the gate."""
