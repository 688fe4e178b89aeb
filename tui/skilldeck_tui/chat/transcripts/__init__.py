"""What runs did as items to show, to copy and to export. Nothing here draws."""
