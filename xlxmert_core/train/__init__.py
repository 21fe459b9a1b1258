"""Training: the one loop, its optimisers and processes, and what each model is trained on."""
