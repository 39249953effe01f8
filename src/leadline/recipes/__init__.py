"""Recipes as frozen records: an optimizer with its settings at the base, steps, schedule, clipping."""
