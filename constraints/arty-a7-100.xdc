# What board files do not say: pins of the serial port and of a light (Digilent, Arty A7 master constraints).
set_property -dict {PACKAGE_PIN A9  IOSTANDARD LVCMOS33} [get_ports uart_rx]
set_property -dict {PACKAGE_PIN D10 IOSTANDARD LVCMOS33} [get_ports uart_tx]
set_property -dict {PACKAGE_PIN H5  IOSTANDARD LVCMOS33} [get_ports led]
# A serial port has its own time.
set_false_path -from [get_ports uart_rx]
set_false_path -to [get_ports {uart_tx led}]
