"""Independent judges: for measuring only, nothing the product conditions on or trains against."""
