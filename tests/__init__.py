"""The tests; a package so that files share what conftest.py has."""
