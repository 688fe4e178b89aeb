"""MCP servers as a source of tools, through the official `mcp` package: connections (`connection`), the HTTP they may
speak (`guarded`), who connects to what (`servers`), and the fields and items that `tools/mcp.py` reads and makes.
Programs are started for servers of the operator's settings only, never for a request's.
"""
