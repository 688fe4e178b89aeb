"""Chat Completions: the body read into a run's request, and a run's output as completions."""
