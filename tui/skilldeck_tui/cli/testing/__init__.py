"""`skilldeck test` and `skilldeck evals`: tests of skills, run, kept, and made of a run."""
