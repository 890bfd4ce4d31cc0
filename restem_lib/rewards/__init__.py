"""Rewards: is a sampled solution right? final answers in answers.py, algebra in workers.py."""
