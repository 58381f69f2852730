"""How each model of the miniature is trained: one recipe a file, each with its figures."""
