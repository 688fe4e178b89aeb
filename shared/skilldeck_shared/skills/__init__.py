"""A skill's folder: SKILL.md, its files as a bundle and what is left out of that, and the packages that they import."""
