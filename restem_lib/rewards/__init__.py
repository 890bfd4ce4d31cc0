"""Rewards: extraction.py finds the final answer, answers.py compares it, workers.py does the algebra."""
