"""The Python library: what `import wirebert` offers, a thin layer over the functions behind the commands."""
