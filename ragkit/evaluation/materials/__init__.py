"""Questions about materials with known answers, an oracle planner, and scoring."""
