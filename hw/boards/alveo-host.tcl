# The host: PCIe, and registers behind it. The machine's clock comes from a generator of its own.
set pcie [create_bd_cell -type ip -vlnv xilinx.com:ip:xdma pcie]
apply_board_connection -board_interface "pci_express_x16" -ip_intf "pcie/pcie_mgt" -diagram system
apply_bd_automation -rule xilinx.com:bd_rule:board -config {Board_Interface {pcie_refclk}} [get_bd_intf_pins pcie/CLK_IN]
apply_board_connection -board_interface "pcie_perstn" -ip_intf "pcie/RST.sys_rst_n" -diagram system
set_property -dict {CONFIG.axilite_master_en true CONFIG.axilite_master_size 64
    CONFIG.axilite_master_scale Kilobytes} $pcie
set clocks [create_bd_cell -type ip -vlnv xilinx.com:ip:clk_wiz clocks]
set_property -dict {CONFIG.CLKOUT1_REQUESTED_OUT_FREQ 300.0 CONFIG.USE_RESET false} $clocks
connect_bd_net [get_bd_pins pcie/axi_aclk] [get_bd_pins clocks/clk_in1]
set reset [create_bd_cell -type ip -vlnv xilinx.com:ip:proc_sys_reset reset]
connect_bd_net [get_bd_pins clocks/clk_out1] [get_bd_pins reset/slowest_sync_clk] [get_bd_pins machine/aclk]
connect_bd_net [get_bd_pins pcie/axi_aresetn] [get_bd_pins reset/ext_reset_in]
connect_bd_net [get_bd_pins clocks/locked] [get_bd_pins reset/dcm_locked]
connect_bd_net [get_bd_pins reset/peripheral_aresetn] [get_bd_pins machine/aresetn]
set bridge [create_bd_cell -type ip -vlnv xilinx.com:ip:smartconnect bridge]
set_property -dict {CONFIG.NUM_SI 1 CONFIG.NUM_CLKS 2} $bridge
connect_bd_net [get_bd_pins pcie/axi_aclk] [get_bd_pins bridge/aclk]
connect_bd_net [get_bd_pins clocks/clk_out1] [get_bd_pins bridge/aclk1]
connect_bd_net [get_bd_pins pcie/axi_aresetn] [get_bd_pins bridge/aresetn]
connect_bd_intf_net [get_bd_intf_pins pcie/M_AXI_LITE] [get_bd_intf_pins bridge/S00_AXI]
connect_bd_intf_net [get_bd_intf_pins bridge/M00_AXI] [get_bd_intf_pins machine/s_axi]
