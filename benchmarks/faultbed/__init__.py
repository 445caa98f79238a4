"""A real region whose processes can be made to stand still at a named moment, and then be harmed."""
