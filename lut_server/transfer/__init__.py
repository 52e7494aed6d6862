"""What comes in from elsewhere and what goes out: others' tables, archives of everything, files for notebooks."""
