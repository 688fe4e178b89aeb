"""MCP servers as a source of tools, through the official `mcp` package: connections (`connection`), the HTTP they may
speak (`guarded`), and who connects to what (`servers`). Programs are started for servers of the operator's settings
only, never for a request's.
"""
