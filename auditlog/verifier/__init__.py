"""The stand-alone verifier: one file that needs nothing but Python, for people who need not trust us."""
