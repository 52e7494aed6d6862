"""Import and export: tables of others, archives of a store, files for notebooks."""
