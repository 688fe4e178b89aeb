"""Where a message is written: the composer, what it offers while one types, and what goes or waits with the message."""
