"""One framework's own code on another's engine; the only package that knows both frameworks."""
