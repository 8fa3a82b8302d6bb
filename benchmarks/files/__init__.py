"""Files that are read: damaged and hostile ones."""
