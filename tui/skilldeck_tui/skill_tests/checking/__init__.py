"""What happened in a run, and whether it is what a test expects: checks, and sentences that a judge reads."""
