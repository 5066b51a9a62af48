"""autotrace beside the other recorders of tool calls, each in a virtual environment of its own."""
