"""Pages for people, as HTML and as JSON (`?format=json`). They write nothing."""
