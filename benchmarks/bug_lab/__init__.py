"""The bug lab: faults that people make, planted one by one, and whether the doctor names them."""
