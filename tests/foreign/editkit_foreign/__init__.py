"""One plug-in of every group of editkit, as another package would bring them."""
