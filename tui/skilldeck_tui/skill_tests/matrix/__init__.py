"""An evaluation: tests by models by variants of a skill, planned, tried one by one, each kept as it ends."""
