"""One batch of circuits on several devices: which member runs which circuit, how it runs them, what it took. Knows devices and jobs."""
