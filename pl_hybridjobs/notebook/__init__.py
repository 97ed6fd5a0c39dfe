"""What Jupyter shows: pictures in HTML and SVG, and cards that follow what they show. Knows no jobs: what it draws is handed in."""
