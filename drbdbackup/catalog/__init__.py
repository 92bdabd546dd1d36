"""The facts about runs and copies of all nodes; the only place that speaks SQL."""
