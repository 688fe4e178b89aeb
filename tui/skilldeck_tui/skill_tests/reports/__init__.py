"""An evaluation as others read it: JSON, JUnit XML, Markdown and one HTML page, all made of one summary."""
