"""Models, and the means to look inside and to change one thing in them."""
