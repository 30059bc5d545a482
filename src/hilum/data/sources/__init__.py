"""Data sets as their publishers lay them out, one reader each: folder -> Films."""
