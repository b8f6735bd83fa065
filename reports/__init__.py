"""Report templates: notebooks that papermill runs; they define nothing and import everything."""
