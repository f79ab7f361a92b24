"""What two sides must agree on: configuration, formats, tape, registers, wire, bits."""
