"""What crosses the wire, read and checked: fields, JSON text, items, environments, schemas. Nothing here runs."""
