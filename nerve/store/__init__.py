"""The store: the only importer of peewee. One process writes (LogWriter), everyone reads (LogReader, query_logs).

Its modules are imported directly, and each only where it is needed: `nerve logs` needs no archiver.
"""
