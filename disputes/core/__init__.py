"""Nouns of the argument, pure: `criteria` (one tri-state question each), `verdict` (their ordering), `liability` (who
bears it by default), `status` (what may become of a case, and through whose hands). No Django, no clock, no settings.
"""
