"""How things show themselves: pictures with their sentences, steps that move, models in a few lines, PNGs that know."""
