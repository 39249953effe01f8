"""The claims of arXiv 2512.21075v1, each measured and judged by a stated rule."""
