"""Other products' names on our verbs."""
