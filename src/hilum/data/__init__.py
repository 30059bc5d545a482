"""From a folder of films to one table of films, and from a film to the tensor that a network sees."""
