"""What makes chat of tokens: template, encoding, one turn read and ended where it has to."""
