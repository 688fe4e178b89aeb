"""Files looked into: their tree, their beginning, pictures."""
