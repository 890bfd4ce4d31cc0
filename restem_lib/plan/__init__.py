"""`restem plan`: hours, memory and disk of a preset before anything starts.

shapes, lengths -> cost_model, memory <- machines;  stage_costs -> stages -> forecast
"""
