"""The reading room: a server that scores films, and a page on which they are read. Everything stays on this machine."""
