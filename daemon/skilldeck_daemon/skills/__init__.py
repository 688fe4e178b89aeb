"""Skill bundles on the daemon's side: reading what was uploaded, the zip that goes out, and the mounted tree.

Knows files and folders only; which skill and version a bundle becomes is the library's business (libraries/skills.py).
"""
