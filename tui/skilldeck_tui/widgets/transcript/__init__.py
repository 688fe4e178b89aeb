"""The widgets that show a run: one for each kind of item, and the view that holds them."""
