# A controller for each port, in a clock of its own.
for {set index 0} {$index < $channels} {incr index} {
    create_bd_cell -type ip -vlnv xilinx.com:ip:ddr4 ddr_$index
    apply_board_connection -board_interface "ddr4_sdram_c$index" -ip_intf "ddr_$index/C0_DDR4" -diagram system
    apply_board_connection -board_interface "default_300mhz_clk$index" -ip_intf "ddr_$index/C0_SYS_CLK" -diagram system
    connect_bd_net [get_bd_pins reset/peripheral_reset] [get_bd_pins ddr_$index/sys_rst]
    create_bd_cell -type ip -vlnv xilinx.com:ip:smartconnect join_$index
    set_property -dict {CONFIG.NUM_SI 1 CONFIG.NUM_CLKS 2} [get_bd_cells join_$index]
    connect_bd_net [get_bd_pins clocks/clk_out1] [get_bd_pins join_$index/aclk]
    connect_bd_net [get_bd_pins ddr_$index/c0_ddr4_ui_clk] [get_bd_pins join_$index/aclk1]
    connect_bd_net [get_bd_pins reset/peripheral_aresetn] [get_bd_pins join_$index/aresetn] [get_bd_pins ddr_$index/c0_ddr4_aresetn]
    connect_bd_intf_net [get_bd_intf_pins machine/m_axi_$index] [get_bd_intf_pins join_$index/S00_AXI]
    connect_bd_intf_net [get_bd_intf_pins join_$index/M00_AXI] [get_bd_intf_pins ddr_$index/C0_DDR4_S_AXI]
}
