"""The four modes, a screen each; what is opened above them lies in `dialogs/`."""
