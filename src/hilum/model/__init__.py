"""A trained model: its folder, its metadata, the engines that run it, and what is chosen once it is trained."""
