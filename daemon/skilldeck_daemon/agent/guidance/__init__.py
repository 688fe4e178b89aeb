"""What helps a model to finish a skill: the list it chooses from, SKILL.md opened for it with its paths written out,
and for small models the command of the next turn and the form of the answer. Functions of a run's texts."""
