"""A world of product photographs on one GPU in minutes: eye, codes, transformer, generator and the judge of them."""
