"""Record tasks, steps and tool calls of user code as spans."""
