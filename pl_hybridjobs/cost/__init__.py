"""Prices, budgets, and the ledger that is asked before anything is bought. Light: knows neither devices nor jobs."""
