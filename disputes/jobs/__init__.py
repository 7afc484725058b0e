"""What of a case takes longer than a request may."""
