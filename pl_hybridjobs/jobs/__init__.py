"""The life of a job. Knows neither devices nor vendors."""
