# The board file describes DDR3, clock and reset; the controller's clock, a quarter of the memory's, is the machine's.
set ddr [create_bd_cell -type ip -vlnv xilinx.com:ip:mig_7series ddr]
apply_board_connection -board_interface "ddr3_sdram" -ip_intf "ddr/mig_ddr_interface" -diagram system
set clocks [create_bd_cell -type ip -vlnv xilinx.com:ip:clk_wiz clocks]
set_property -dict {CONFIG.CLKOUT1_REQUESTED_OUT_FREQ 166.667 CONFIG.CLKOUT2_USED true
    CONFIG.CLKOUT2_REQUESTED_OUT_FREQ 200.0} $clocks
apply_board_connection -board_interface "sys_clock" -ip_intf "clocks/clock_CLK_IN1" -diagram system
apply_board_connection -board_interface "reset" -ip_intf "clocks/reset" -diagram system
apply_board_connection -board_interface "reset" -ip_intf "ddr/sys_rst" -diagram system
connect_bd_net [get_bd_pins clocks/clk_out1] [get_bd_pins ddr/sys_clk_i]
connect_bd_net [get_bd_pins clocks/clk_out2] [get_bd_pins ddr/clk_ref_i]
set reset [create_bd_cell -type ip -vlnv xilinx.com:ip:proc_sys_reset reset]
connect_bd_net [get_bd_pins ddr/ui_clk] [get_bd_pins reset/slowest_sync_clk] [get_bd_pins machine/aclk]
connect_bd_net [get_bd_pins ddr/ui_clk_sync_rst] [get_bd_pins reset/ext_reset_in]
connect_bd_net [get_bd_pins ddr/mmcm_locked] [get_bd_pins reset/dcm_locked]
connect_bd_net [get_bd_pins reset/peripheral_aresetn] [get_bd_pins machine/aresetn] [get_bd_pins ddr/aresetn]
connect_bd_intf_net [get_bd_intf_pins machine/m_axi_0] [get_bd_intf_pins ddr/S_AXI]
foreach {pin port direction} {rx uart_rx I tx uart_tx O busy led O} {
    create_bd_port -dir $direction $port
    connect_bd_net [get_bd_ports $port] [get_bd_pins machine/$pin]
}
