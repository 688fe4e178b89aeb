"""The kept objects over HTTP: files, uploads, skills, containers, conversations, models, approvals."""
