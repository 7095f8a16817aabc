"""Make recipes from what a user has: a picture of one good board, CAD files, a list of ball names, a placement file."""
