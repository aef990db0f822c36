"""The store: the sole importer of peewee."""
