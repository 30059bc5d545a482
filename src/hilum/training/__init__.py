"""From a recipe and a table of films to a bundle: the loop, the losses, the starting weights."""
