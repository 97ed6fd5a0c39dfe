"""The page in the browser: its server, and the page itself in a real Chromium."""
