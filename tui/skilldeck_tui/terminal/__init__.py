"""The terminal itself: its clipboard, its notices, what may be written to it, its end; and pictures without one."""
