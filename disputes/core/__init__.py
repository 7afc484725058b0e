"""Nouns of the argument, pure: `criteria` (one tri-state question each), `verdict` (their order), `liability` (who bears
it by default), `status` (what may become of a case, and through whose hands), `history` (its steps as a hash chain).
"""
