"""One page about results: what a folder holds, drawn as a self-contained HTML file."""
