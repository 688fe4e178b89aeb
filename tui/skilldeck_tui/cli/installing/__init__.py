"""Commands that bring skills of others here, and up to date: from a Git repository, an archive or a folder."""
