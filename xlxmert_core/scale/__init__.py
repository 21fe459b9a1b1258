"""What leaves one machine: workers, a detector's features, the codes of millions of pictures, training on many GPUs."""
