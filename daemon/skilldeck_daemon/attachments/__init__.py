"""Files of a request made text for the model: found, fetched, converted in a sandbox, previewed within a budget."""
