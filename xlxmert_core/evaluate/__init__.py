"""How good it is: scenes read back from pictures and codes, and the official scores of answers and captions."""
