"""What clients keep here, as services: skills, files, containers, approvals, and the bus of changes."""
