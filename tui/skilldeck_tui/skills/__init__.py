"""What is shown of skills: their rows, packages, findings, differences, and what a run did with them."""
