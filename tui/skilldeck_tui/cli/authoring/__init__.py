"""Commands about skills of one's own: uploaded, watched, compared, promoted, linted; begun from a template; on disk."""
