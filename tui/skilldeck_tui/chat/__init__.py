"""The chat behind its screen: sessions, drafts, transcripts, live runs."""
