"""What the running service serves, asked of it for held-out people and judged."""
