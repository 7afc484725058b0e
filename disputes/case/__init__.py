"""What a case is made of beside its verdicts: steps, deadlines, what was handed in, what is kept from being erased."""
