"""Text as it is shown: values in words, colours of commands, lines that stay whole. Pure."""
