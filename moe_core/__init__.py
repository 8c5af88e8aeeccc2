"""MoEScope's engine: real forward passes, routing, cost models and their records."""
