"""The gateware: contract, units, tape sources, control, link and boards."""
