"""Virtual wristbands, their patients and the region on one machine."""
