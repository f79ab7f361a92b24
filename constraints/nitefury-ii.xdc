# PCIe x4 over M.2: reference clock, reset and lanes (pins as in amaranth-boards, nitefury.py). The pins of the DDR3 are
# in mig.prj.
set_property PACKAGE_PIN F6 [get_ports {pcie_refclk_clk_p[0]}]
set_property PACKAGE_PIN E6 [get_ports {pcie_refclk_clk_n[0]}]
set_property -dict {PACKAGE_PIN J1 IOSTANDARD LVCMOS33 PULLUP true} [get_ports pcie_rst_n]
create_clock -name pcie_refclk -period 10 [get_ports {pcie_refclk_clk_p[0]}]
set_false_path -from [get_ports pcie_rst_n]
set_property PACKAGE_PIN B10 [get_ports {pcie_mgt_rxp[0]}]
set_property PACKAGE_PIN B8  [get_ports {pcie_mgt_rxp[1]}]
set_property PACKAGE_PIN D11 [get_ports {pcie_mgt_rxp[2]}]
set_property PACKAGE_PIN D9  [get_ports {pcie_mgt_rxp[3]}]
