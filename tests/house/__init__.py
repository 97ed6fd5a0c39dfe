"""The laws of the house: arrows between modules, light import, public names, tidiness."""
